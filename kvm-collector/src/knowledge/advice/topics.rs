//! The advice texts. docs/advice.md has the sources, by topic.
//!
//! A text first says what the exits mean and then what to do. Module parameters are written as
//! `MODULE.PARAMETER`, so that `cargo xtask names --check` finds them. A text that names features of a
//! vendor has variants, each with the features of one instruction set.

use serde::Serialize;

use super::Isa;

/// What to do about frequent exits of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// Name of the topic in docs/advice.md.
    pub topic: &'static str,
    /// What the exits mean, and what to do.
    pub text: &'static str,
}

/// A topic of advice, with its text for each instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Topic {
    /// Name of the topic in docs/advice.md.
    pub name: &'static str,
    /// The text, unless a variant fits better.
    text: &'static str,
    variants: &'static [(Isa, &'static str)],
}

impl Topic {
    /// Returns the advice for exits of this instruction set.
    #[must_use]
    pub fn advice(&self, isa: Isa) -> Advice {
        let variant = self.variants.iter().find(|(it, _)| *it == isa);
        Advice {
            topic: self.name,
            text: variant.map_or(self.text, |(_, text)| text),
        }
    }
}

macro_rules! topics {
    ($($name:ident $topic:literal $text:literal $([$isa:ident $variant:literal])*)*) => {
        $(pub(super) const $name: Topic = Topic {
            name: $topic,
            text: $text,
            variants: &[$((Isa::$isa, $variant)),*],
        };)*

        /// All topics.
        #[cfg(feature = "test-api")]
        pub const TOPICS: &[Topic] = &[$($name),*];
    };
}

topics! {
    PREEMPTED "preempted"
    "Most of this time the vCPU was ready to run but waited for a CPU; the exit itself is not the problem. Run fewer vCPUs per CPU, pin vCPUs to different CPUs, or give the VM a larger CPU weight."

    VMM "vmm"
    "Most of this time is spent in the VMM, not in KVM. Use --kind userspace to see what KVM asks the VMM for, and check that the VMM's threads get CPU time."

    PAUSE "pause"
    "vCPUs spin on a lock, and its holder is probably not running, because there are too many vCPUs for the CPUs. Run fewer vCPUs or pin them; --preempt shows whether they wait for CPUs. kvm_intel.ple_gap and kvm_intel.ple_window, or kvm_amd.pause_filter_count, set how long a vCPU spins before it exits."
    [Vmx "vCPUs spin on a lock, and its holder is probably not running, because there are too many vCPUs for the CPUs. Run fewer vCPUs or pin them; --preempt shows whether they wait for CPUs. kvm_intel.ple_gap and kvm_intel.ple_window set how long a vCPU spins before it exits."]
    [Svm "vCPUs spin on a lock, and its holder is probably not running, because there are too many vCPUs for the CPUs. Run fewer vCPUs or pin them; --preempt shows whether they wait for CPUs. kvm_amd.pause_filter_count sets how long a vCPU spins before it exits."]
    [Arm64 "vCPUs spin on a lock, and its holder is probably not running, because there are too many vCPUs for the CPUs. Run fewer vCPUs or pin them; --preempt shows whether they wait for CPUs."]

    HALT "halt"
    "vCPUs go idle and are woken often. If latency matters more than CPU time, raise kvm.halt_poll_ns or use cpuidle-haltpoll in the guest. On dedicated CPUs, let the guest idle without exits (QEMU: -overcommit cpu-pm=on)."
    [Arm64 "vCPUs go idle and are woken often. If latency matters more than CPU time, raise kvm.halt_poll_ns."]

    HALT_IN_VMM "halt-in-vmm"
    "The VMM itself waits for the next interrupt, which makes each wakeup expensive. Use an interrupt controller in the kernel (QEMU: kernel-irqchip=on or split)."
    [Arm64 "The VMM itself waits for the next interrupt, which makes each wakeup expensive. Use an interrupt controller in the kernel (QEMU: kernel-irqchip=on)."]

    MWAIT "mwait"
    "KVM emulates MONITOR and MWAIT as instructions that do nothing, so an idle guest spins. Hide MONITOR from the guest, or on dedicated CPUs let it use MWAIT without exits (QEMU: -overcommit cpu-pm=on)."

    MMIO_VMM "mmio-in-vmm"
    "The VMM emulates device registers; --causes shows which. Replace emulated devices with virtio and ioeventfd or vhost, and use drivers that notify the device less often."

    MMIO "mmio-in-kernel"
    "The kernel handles accesses to device registers, for example by an ioeventfd or its interrupt controller; --causes shows which. Each access is cheap, so reduce their number: larger batches, MSI-X, APICv or AVIC."
    [Vmx "The kernel handles accesses to device registers, for example by an ioeventfd or its interrupt controller; --causes shows which. Each access is cheap, so reduce their number: larger batches, MSI-X, or APICv."]
    [Svm "The kernel handles accesses to device registers, for example by an ioeventfd or its interrupt controller; --causes shows which. Each access is cheap, so reduce their number: larger batches, MSI-X, or AVIC."]
    [Arm64 "The kernel handles accesses to device registers, for example by an ioeventfd or its interrupt controller; --causes shows which. Each access is cheap, so reduce their number: larger batches, or MSI-X."]

    FAULTS "faults"
    "The host maps the guest's memory page by page, at first use. Use huge pages and allocate memory up front. If the faults do not stop, look for what takes pages away again: live migration, ballooning, swap, KSM or NUMA balancing."

    DIRTY_LOG "dirty-log"
    "KVM logs which pages the guest writes, usually for live migration, and stops when the migration ends. Leave kvm.eager_page_split on, so that huge pages are split in advance."
    [Arm64 "KVM logs which pages the guest writes, usually for live migration, and stops when the migration ends."]

    IO_VMM "io-in-vmm"
    "The VMM emulates I/O ports; --causes shows which. Use devices without ports (virtio 1.0 over PCI, with vhost or ioeventfd)."

    IO "io-in-kernel"
    "The kernel handles accesses to I/O ports, for example of the PIT, the PIC or an ioeventfd; --causes shows which. Use kvm-clock or TSC, and MSI-X, in the guest."

    SERIAL "serial"
    "The guest reads or writes a serial console byte by byte. Log less to it, or use virtio-console."

    CLOCK "clock"
    "The guest reads the time from an emulated clock. Use kvm-clock or TSC (Linux: current_clocksource), or Hyper-V's clock for Windows (QEMU: hv-time, hv-stimer)."

    IDE "ide"
    "The guest's disk is an emulated IDE disk. Use virtio-blk or virtio-scsi."

    PCI_CONFIG "pci-config"
    "The guest accesses PCI configuration space through I/O ports, which is normal while it boots. Later, look for a program in the guest that polls devices, for example lspci or a monitoring agent."

    DEBUG_PORT "debug-port"
    "Firmware writes debug output, or an old driver waits by writing to port 0x80. Use a release build of the firmware, and io_delay=none in the guest."

    VGA "vga"
    "The guest draws on an emulated VGA. Run it without graphics, or use virtio-gpu."

    MSR "msr"
    "KVM emulates accesses to MSRs. Use --causes to see which MSRs; the advice depends on them."

    IPI "ipi"
    "vCPUs send each other interrupts. Let the hardware deliver them without exits (kvm_intel.enable_apicv and kvm_intel.enable_ipiv, or kvm_amd.avic with x2AVIC). Otherwise use KVM's PV IPIs in the guest, and reduce wakeups across vCPUs."
    [Vmx "vCPUs send each other interrupts. Let the hardware deliver them without exits (kvm_intel.enable_apicv and kvm_intel.enable_ipiv). Otherwise use KVM's PV IPIs in the guest, and reduce wakeups across vCPUs."]
    [Svm "vCPUs send each other interrupts. Let the hardware deliver them without exits (kvm_amd.avic, with x2AVIC). Otherwise use KVM's PV IPIs in the guest, and reduce wakeups across vCPUs."]
    [Arm64 "vCPUs send each other interrupts. GICv4.1 delivers them without exits. Otherwise reduce wakeups across vCPUs."]

    TIMER "timer"
    "The guest programs its timer. Use fewer timers and fewer ticks in the guest, and leave kvm_intel.preemption_timer on. With isolated CPUs and nohz_full, kvm.pi_inject_timer lets timers fire on housekeeping CPUs."
    [Svm "The guest programs its timer. Use fewer timers and fewer ticks in the guest. With isolated CPUs and nohz_full, kvm.pi_inject_timer lets timers fire on housekeeping CPUs."]
    [Arm64 "The guest programs its timer. Use fewer timers and fewer ticks in the guest."]

    APIC "apic"
    "KVM emulates accesses to the interrupt controller. APICv (kvm_intel.enable_apicv) or AVIC (kvm_amd.avic) does most of this in hardware, so check that it is on and stays on. Otherwise use x2APIC and PV EOI, or hv-vapic for Windows."
    [Vmx "KVM emulates accesses to the interrupt controller. APICv (kvm_intel.enable_apicv) does most of this in hardware, so check that it is on and stays on. Otherwise use x2APIC and PV EOI, or hv-vapic for Windows."]
    [Svm "KVM emulates accesses to the interrupt controller. AVIC (kvm_amd.avic) does most of this in hardware, so check that it is on and stays on. Otherwise use x2APIC and PV EOI, or hv-vapic for Windows."]
    [Arm64 "KVM emulates accesses to the interrupt controller. A GIC that is virtualized in hardware needs fewer exits."]

    HOST_INTERRUPTS "host-interrupts"
    "More interrupts of the host stop the guest than its tick explains; /proc/interrupts shows which. Keep device interrupts and timers off the CPUs that run vCPUs (IRQ affinity, nohz_full, isolcpus), and use posted interrupts for assigned devices."
    [Svm "More interrupts of the host stop the guest than its tick explains; /proc/interrupts shows which. Keep device interrupts and timers off the CPUs that run vCPUs (IRQ affinity, nohz_full, isolcpus), and for assigned devices let AVIC deliver interrupts (kvm_amd.avic)."]
    [Arm64 "More interrupts of the host stop the guest than its tick explains; /proc/interrupts shows which. Keep device interrupts and timers off the CPUs that run vCPUs (IRQ affinity, nohz_full, isolcpus), and use GICv4 for assigned devices."]

    WINDOW "interrupt-window"
    "An interrupt waits until the guest can take it, and KVM needs an exit to deliver it. APICv or AVIC delivers interrupts without such exits."
    [Vmx "An interrupt waits until the guest can take it, and KVM needs an exit to deliver it. APICv (kvm_intel.enable_apicv) delivers interrupts without such exits."]
    [Svm "An interrupt waits until the guest can take it, and KVM needs an exit to deliver it. AVIC (kvm_amd.avic) delivers interrupts without such exits."]
    [Arm64 "An interrupt waits until the guest can take it, and KVM needs an exit to deliver it."]

    CPUID "cpuid"
    "CPUID always exits on Intel, and KVM intercepts it on AMD. Use --cause rip to find the code in the guest that executes it often, usually to serialize or to query features."
    [Vmx "CPUID always exits. Use --cause rip to find the code in the guest that executes it often, usually to serialize or to query features."]
    [Svm "KVM intercepts CPUID. Use --cause rip to find the code in the guest that executes it often, usually to serialize or to query features."]
    [Arm64 "CPUID exits. Use --cause rip to find the code in the guest that executes it often, usually to serialize or to query features."]

    WBINVD "wbinvd"
    "The guest flushes CPU caches, which is only needed with an assigned device that does not snoop them. Look for a graphics driver in the guest, or for software that flushes without need."

    CR "control-registers"
    "The guest accesses control registers that KVM intercepts. Few accesses exit with EPT or NPT, so check that kvm_intel.ept or kvm_amd.npt is on. --cause rip shows the code in the guest."
    [Vmx "The guest accesses control registers that KVM intercepts. Few accesses exit with EPT, so check that kvm_intel.ept is on. --cause rip shows the code in the guest."]
    [Svm "The guest accesses control registers that KVM intercepts. Few accesses exit with NPT, so check that kvm_amd.npt is on. --cause rip shows the code in the guest."]
    [Arm64 "The guest accesses control registers that KVM intercepts. --cause rip shows the code in the guest."]

    DR "debug-registers"
    "The guest uses debug registers, for a debugger or watchpoints. Only the first access exits: then the guest has the registers until its next exit. Stop the debugger if nobody needs it."

    TSC "tsc"
    "Reading the TSC exits because the VMM requested that, or because the host cannot scale its TSC to the guest's frequency, usually after a migration. Use a host with the same TSC frequency, or one with TSC scaling."

    PMU "pmu"
    "The guest uses performance counters, which KVM emulates. Stop perf or the NMI watchdog in the guest (nmi_watchdog=0), or start the VM without a PMU (QEMU: -cpu ...,pmu=off)."

    MITIGATIONS "mitigations"
    "The guest switches speculation controls. Show it enhanced or automatic IBRS if the CPU has it, which makes most switches unnecessary. Otherwise mitigations= on the guest's command line decides."

    SHADOW_PAGING "shadow-paging"
    "TLB flushes exit only if KVM shadows the guest's page tables. Check that kvm_intel.ept or kvm_amd.npt is on, and for a nested guest that it is on in both hypervisors."
    [Vmx "TLB flushes exit only if KVM shadows the guest's page tables. Check that kvm_intel.ept is on, and for a nested guest that it is on in both hypervisors."]
    [Svm "TLB flushes exit only if KVM shadows the guest's page tables. Check that kvm_amd.npt is on, and for a nested guest that it is on in both hypervisors."]
    [Arm64 "TLB flushes exit only if KVM shadows the guest's page tables."]

    HYPERCALL "hypercall"
    "The guest calls the hypervisor. Use --kind hypercall, or --kind kvm_hv_hypercall.code for Windows, to see what it calls for. Many IPIs or yields mean many wakeups or too many vCPUs."
    [Arm64 "The guest calls the hypervisor. Use --kind hypercall to see what it calls for, for example PSCI or the time."]

    SYSREG "system-registers"
    "KVM emulates system registers of Arm that the hardware does not virtualize, such as ICC_SGI1R for IPIs, timers and counters. GICv4.1 delivers IPIs without exits."

    SEV "sev-es"
    "The guest's memory and registers are encrypted, so it asks KVM for each service. Use --kind kvm_vmgexit_enter.exit_reason to see for which; the advice on them is the same as without encryption."

    BUS_LOCK "bus-lock"
    "An atomic operation in the guest spans two cache lines, which slows down the whole host. Use --cause rip to find it. QEMU's bus-lock-ratelimit protects the other VMs."

    NOTIFY "notify"
    "The guest did not take interrupts or other events for too long: it is broken or hostile. QEMU's notify-vmexit sets what happens then."

    EXCEPTION "exception"
    "KVM intercepted an exception, or the host got an NMI. Page faults mean shadow paging, #UD emulated instructions, #AC split locks, #DB and #BP a debugger, and NMIs perf or the watchdog of the host. Use --kind kvm_inj_exception.exception to see which exceptions KVM passes on to the guest."

    NESTED "nested"
    "The guest is a hypervisor, and KVM emulates its virtualization instructions. Let the hardware do part of it (kvm_intel.enable_shadow_vmcs; kvm_amd.vls and kvm_amd.vgif), or run the inner VMs directly on the host."
    [Vmx "The guest is a hypervisor, and KVM emulates its virtualization instructions. Let the hardware do part of it (kvm_intel.enable_shadow_vmcs), or run the inner VMs directly on the host."]
    [Svm "The guest is a hypervisor, and KVM emulates its virtualization instructions. Let the hardware do part of it (kvm_amd.vls and kvm_amd.vgif), or run the inner VMs directly on the host."]
    [Arm64 "The guest is a hypervisor, and KVM emulates its virtualization instructions. Run the inner VMs directly on the host."]

    SIGNALS "signals"
    "Signals to the vCPU threads stop the guest: the VMM pauses vCPUs for its own work, for example migration, memory changes or timers. The VMM's log or strace -f shows which."
}
