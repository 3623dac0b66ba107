pub mod clock;
pub mod proc {
    pub fn is_process(p: u32) -> bool {
        std::path::Path::new(&format!("/proc/{p}")).exists()
    }
    pub fn is_thread(p: u32) -> bool {
        is_process(p)
    }
}
pub mod kvm {
    pub struct Watch;
    impl Watch {
        pub fn begin() -> Self {
            Watch
        }
        pub fn look(&mut self) {}
    }
}
pub mod vm {
    #[derive(Debug, serde::Serialize)]
    pub struct Vcpu {
        pub index: Option<u32>,
        pub tid: u32,
        pub comm: String,
    }
    #[derive(Debug, serde::Serialize)]
    pub struct Vm {
        pub tgid: u32,
        pub name: String,
        pub vmm: String,
        pub vcpus: Vec<Vcpu>,
    }
    pub fn list() -> anyhow::Result<Vec<Vm>> {
        Ok(vec![])
    }
    pub fn name_of(t: u32) -> Option<String> {
        std::fs::read_to_string(format!("/proc/{t}/comm"))
            .ok()
            .map(|c| format!("{}-{t}", c.trim()))
    }
}
