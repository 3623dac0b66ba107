//! The macros of the kernel's headers.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
};

use crate::expression::evaluate;

/// The environment variable with the folder that has one folder of headers per kernel.
const VARIABLE: &str = "KVM_TEST_HEADERS";

/// The kernels, and the names of their folders. `cargo xtask names` fetches them.
const VERSIONS: [&str; 2] = ["6.1", "6.12"];

/// The headers that are read. `cargo xtask names` fetches the folders they are in.
const HEADERS: &[&str] = &[
    "arch/x86/include/asm/msr-index.h",
    "arch/x86/include/asm/perf_event.h",
    "arch/x86/include/asm/hyperv-tlfs.h",
    "arch/x86/include/asm/apicdef.h",
    "arch/x86/include/asm/hpet.h",
    "arch/x86/include/asm/kvm_host.h",
    "arch/x86/include/asm/cpufeatures.h",
    "arch/x86/include/asm/dma.h",
    "arch/x86/include/asm/i8259.h",
    "arch/x86/include/asm/mc146818rtc.h",
    "arch/x86/include/asm/mwait.h",
    "arch/x86/include/asm/serial.h",
    "arch/x86/include/asm/sgx.h",
    "arch/x86/include/asm/shared/tdx.h",
    "arch/x86/include/asm/svm.h",
    "arch/x86/include/asm/vmware.h",
    "arch/x86/include/uapi/asm/kvm_para.h",
    "arch/x86/include/uapi/asm/mtrr.h",
    "arch/x86/include/uapi/asm/svm.h",
    "arch/x86/include/uapi/asm/vmx.h",
    "arch/arm64/include/asm/esr.h",
    "arch/arm64/include/asm/kvm_arm.h",
    "arch/arm64/include/asm/kvm_asm.h",
    "arch/arm64/include/asm/sysreg.h",
    "include/asm-generic/hyperv-tlfs.h",
    "include/linux/i8253.h",
    "include/uapi/asm-generic/errno-base.h",
    "include/uapi/asm-generic/errno.h",
    "include/uapi/linux/fdreg.h",
    "include/uapi/linux/kvm.h",
    "include/uapi/linux/kvm_para.h",
    "include/uapi/linux/serial_reg.h",
    "include/video/vga.h",
];

/// Headers that only the newest kernel needs to have.
const NEW_HEADERS: &[&str] = &["arch/x86/include/asm/shared/tdx.h"];

/// The headers of one kernel, and the parameters of its modules.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// Its version, such as `6.12`.
    pub(crate) version: &'static str,
    macros: BTreeMap<String, Macro>,
    /// Text of each header.
    texts: BTreeMap<&'static str, String>,
    folder: PathBuf,
}

#[derive(Debug)]
struct Macro {
    parameter: Option<String>,
    body: String,
    header: &'static str,
}

/// Reads the headers of all kernels, or returns why there are none.
pub(crate) fn kernels() -> Result<[Kernel; 2], String> {
    let Some(folder) = env::var_os(VARIABLE) else {
        return Err(format!(
            "{VARIABLE} is not set: `cargo xtask names --check` sets it"
        ));
    };
    let kernels = VERSIONS.map(|version| {
        let folder = Path::new(&folder).join(version);
        Kernel::read(version, folder).unwrap_or_else(|error| panic!("{error}"))
    });
    Ok(kernels)
}

impl Kernel {
    fn read(version: &'static str, folder: PathBuf) -> Result<Self, String> {
        let mut kernel = Self {
            version,
            macros: BTreeMap::new(),
            texts: BTreeMap::new(),
            folder,
        };
        for header in HEADERS {
            let path = kernel.folder.join(header);
            if NEW_HEADERS.contains(header) && !path.exists() {
                continue;
            }
            let text = fs::read_to_string(&path)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            for line in without_comments(&text).replace("\\\n", " ").lines() {
                if let Some((name, parameter, body)) = definition(line) {
                    let new = Macro {
                        parameter,
                        body,
                        header,
                    };
                    kernel.macros.entry(name).or_insert(new);
                }
            }
            kernel.texts.insert(header, text);
        }
        Ok(kernel)
    }

    /// Returns the value of a constant.
    pub(crate) fn value(&self, name: &str) -> Option<u64> {
        self.call(name, None, 0)?.try_into().ok()
    }

    /// Returns the value of a macro with an argument.
    pub(crate) fn value_at(&self, name: &str, argument: u64) -> Option<u64> {
        self.call(name, Some(argument.into()), 0)?.try_into().ok()
    }

    fn call(&self, name: &str, argument: Option<i128>, depth: usize) -> Option<i128> {
        // Some macros of the kernel name themselves.
        if depth > 20 {
            return None;
        }
        let called = self.macros.get(name)?;
        if called.parameter.is_some() != argument.is_some() {
            return None;
        }
        evaluate(&called.body, &|inner, inner_argument| {
            if called.parameter.as_deref() == Some(inner) && inner_argument.is_none() {
                return argument;
            }
            self.call(inner, inner_argument, depth + 1)
        })
    }

    /// Returns all constants of a header that are numbers.
    pub(crate) fn constants(&self, header: &str) -> BTreeMap<&str, u64> {
        let of_header = self.macros.iter().filter(|(_, it)| it.header == header);
        let numbers = of_header.filter_map(|(name, _)| Some((name.as_str(), self.value(name)?)));
        let constants: BTreeMap<_, _> = numbers.collect();
        assert!(!constants.is_empty(), "{header} has no constants");
        constants
    }

    /// Returns the body of a macro.
    pub(crate) fn body(&self, name: &str) -> &str {
        let found = self.macros.get(name);
        &found
            .unwrap_or_else(|| panic!("Linux {} does not define {name}", self.version))
            .body
    }

    /// Returns the text of a header.
    pub(crate) fn text(&self, header: &str) -> &str {
        &self.texts[header]
    }

    /// Returns the parameters of a module, from `modinfo --parameters`.
    pub(crate) fn parameters(&self, module: &str) -> BTreeSet<String> {
        let path = self.folder.join("parameters").join(module);
        let list =
            fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let names = list.lines().filter_map(|line| line.split(':').next());
        names.map(str::to_owned).collect()
    }
}

/// Returns the name of a macro, its parameter and its body. Macros with several parameters are left out.
fn definition(line: &str) -> Option<(String, Option<String>, String)> {
    let rest = line.trim().strip_prefix('#')?.trim_start();
    let rest = rest.strip_prefix("define")?.trim_start();
    let end = rest
        .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .unwrap_or(rest.len());
    let (name, rest) = rest.split_at(end);
    let (parameter, body) = match rest.strip_prefix('(') {
        Some(rest) => {
            let (parameter, body) = rest.split_once(')')?;
            (Some(parameter.trim().to_owned()), body)
        }
        None => (None, rest),
    };
    if parameter.as_ref().is_some_and(|it| it.contains(',')) {
        return None;
    }
    Some((name.to_owned(), parameter, body.trim().to_owned()))
}

fn without_comments(text: &str) -> String {
    let mut code = String::new();
    let mut rest = text;
    while let Some((before, comment)) = rest.split_once("/*") {
        code += before;
        rest = comment.split_once("*/").map_or("", |(_, after)| after);
    }
    code += rest;
    let lines = code
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}
