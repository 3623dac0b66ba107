//! What is advised. Where each piece comes from is in docs/advice.md, under its topic.

use serde::Serialize;

/// What is usually done about many exits of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Advice {
    /// Under what docs/advice.md has it.
    pub topic: &'static str,
    /// What it probably means, and what to do.
    pub text: &'static str,
}

macro_rules! topics {
    ($($name:ident $topic:literal $text:literal)*) => {
        $(pub(super) const $name: Advice = Advice { topic: $topic, text: $text };)*

        /// All of them.
        #[cfg(test)]
        pub(super) const ALL: &[Advice] = &[$($name),*];
    };
}

topics! {
    PREEMPTED "preempted"
    "most of this is waiting for a CPU, whatever the exit was for: fewer vCPUs per CPU, pin vCPUs apart, or give the VM a larger CPU weight"

    VMM "vmm"
    "most of this is spent in the VMM, not in KVM: --kind userspace says what for; look at what the VMM's threads do and whether they have CPUs"

    PAUSE "pause"
    "vCPUs spin on a lock whose holder is likely not running: too many vCPUs for the CPUs; give fewer or pin them (--preempt shows it). KVM's ple_gap and ple_window, or pause_filter_count, say how soon spinning exits"

    HALT "halt"
    "vCPUs go idle and are woken often: if latency matters more than CPU time, raise halt_poll_ns, use cpuidle-haltpoll in the guest, or on dedicated CPUs let the guest idle without exits (QEMU: -overcommit cpu-pm=on)"

    HALT_IN_VMM "halt-in-vmm"
    "the VMM itself waits for the next interrupt: an interrupt controller in the kernel (QEMU: kernel-irqchip=on or split) makes each wakeup cheaper"

    MWAIT "mwait"
    "KVM emulates MWAIT as a no-op, so an idle guest spins: hide MONITOR from the guest, or on dedicated CPUs let it through (QEMU: -overcommit cpu-pm=on)"

    MMIO_VMM "mmio-in-vmm"
    "the VMM emulates device registers: --causes says which; use virtio with ioeventfd or vhost in place of emulated devices, and drivers that notify less"

    MMIO "mmio-in-kernel"
    "device registers that the kernel handles (an ioeventfd, an interrupt controller): --causes says which; each access is cheap, so make fewer: larger batches, MSI-X, APICv or AVIC"

    FAULTS "faults"
    "memory is given page by page: huge pages and allocating up front avoid it. If it lasts: live migration, ballooning, swap, KSM or NUMA balancing take pages away again"

    DIRTY_LOG "dirty-log"
    "the VM's writes are being logged, as for live migration: it ends with that; throttle the guest or the migration less often, and let kvm.eager_page_split split huge pages ahead"

    IO_VMM "io-in-vmm"
    "the VMM emulates I/O ports: --causes says which; prefer devices without ports (virtio 1.0 over PCI, with vhost or ioeventfd)"

    IO "io-in-kernel"
    "I/O ports that the kernel handles (PIT, PIC, an ioeventfd): --causes says which; choose kvm-clock or TSC and MSI-X in the guest"

    SERIAL "serial"
    "the guest writes to a serial console byte by byte: less logging on it, or virtio-console"

    CLOCK "clock"
    "the guest reads time from an emulated timer: let it use kvm-clock or TSC (Linux: current_clocksource), or for Windows Hyper-V's clock (QEMU: hv-time, hv-stimer)"

    IDE "ide"
    "the guest's disk is an emulated IDE disk: use virtio-blk or virtio-scsi"

    PCI_CONFIG "pci-config"
    "PCI configuration space is read through ports: normal while booting; later it is something in the guest that polls devices (lspci, monitoring)"

    DEBUG_PORT "debug-port"
    "firmware writes debug output, or an old driver delays by writing to port 0x80: a release build of the firmware; io_delay=none in the guest"

    VGA "vga"
    "the guest draws on an emulated VGA: use no graphics or virtio-gpu"

    MSR "msr"
    "KVM emulates these registers: --causes says which, and what they are"

    IPI "ipi"
    "vCPUs interrupt each other: hardware can do it without exits (kvm_intel enable_apicv and enable_ipiv, kvm_amd avic with x2AVIC); else KVM's PV IPIs in the guest, and fewer wakeups across vCPUs"

    TIMER "timer"
    "the guest programs its timer: fewer timers and ticks in the guest; on Intel KVM's preemption_timer; with isolated CPUs and nohz_full, pi_inject_timer fires them on housekeeping CPUs"

    APIC "apic"
    "the guest's accesses to its interrupt controller are emulated: APICv (kvm_intel enable_apicv) or AVIC (kvm_amd avic) does most in hardware; check that nothing turns it off; else x2APIC and PV EOI, for Windows hv-vapic"

    HOST_INTERRUPTS "host-interrupts"
    "interrupts of the host stop the guest: keep device interrupts and timers off the vCPUs' CPUs (irq affinity, nohz_full, isolcpus); for assigned devices use posted interrupts. /proc/interrupts says which they are"

    WINDOW "interrupt-window"
    "interrupts wait until the guest can take them, and KVM exits for that: APICv or AVIC delivers them without"

    CPUID "cpuid"
    "CPUID always exits on Intel, and with KVM on AMD: something in the guest executes it often, to serialize or to ask for features; --cause rip says where"

    WBINVD "wbinvd"
    "the guest flushes caches, which matters only with an assigned device that does not snoop: usually a graphics driver, or something that should not"

    CR "control-registers"
    "control registers are intercepted: with EPT or NPT few accesses are, so look whether ept or npt is off; --cause rip says where"

    DR "debug-registers"
    "the guest uses debug registers: a debugger or watchpoints in it; after the first access KVM gives them to the guest, until its next exit"

    TSC "tsc"
    "reading TSC exits: the VMM asked for it, or the host cannot scale TSC to the frequency that the guest was promised (after migration); same frequency, or a CPU with TSC scaling"

    PMU "pmu"
    "the guest uses performance counters, which KVM emulates: perf or the NMI watchdog in the guest (nmi_watchdog=0), or no PMU for it (QEMU: -cpu ...,pmu=off)"

    MITIGATIONS "mitigations"
    "the guest switches speculation controls: enhanced or automatic IBRS makes it unnecessary where the CPU has it and the guest sees it; else the guest's mitigations= decides"

    SHADOW_PAGING "shadow-paging"
    "TLB flushes exit only if KVM shadows the guest's page tables: check that ept or npt is on; in a nested guest, that it is on in both hypervisors"

    HYPERCALL "hypercall"
    "the guest calls the hypervisor on purpose: --kind hypercall (kvm_hv_hypercall.code for Windows) says what for; many IPIs or yields point to many wakeups or too many vCPUs"

    SYSREG "system-registers"
    "KVM emulates these system registers of Arm: IPIs (ICC_SGI1R), timers and counters that the hardware does not virtualize; GICv4.1 delivers IPIs without exits"

    SEV "sev-es"
    "the guest's memory is encrypted, and it asks for what KVM cannot see: --kind kvm_vmgexit_enter.exit_reason says for what; its advice is the same as without encryption"

    BUS_LOCK "bus-lock"
    "an atomic operation across two cache lines slows the whole host: --cause rip says where in the guest; QEMU's bus-lock-ratelimit keeps it from harming others"

    NOTIFY "notify"
    "the guest let no interrupt in for too long: a broken or hostile guest; QEMU's notify-vmexit says what is done about it"

    EXCEPTION "exception"
    "exceptions that KVM intercepts, or NMIs of the host: page faults mean shadow paging, #UD emulated instructions, #AC split locks, #DB and #BP a debugger, NMIs perf or the watchdog on the host; --kind kvm_inj_exception.exception says what is passed on to the guest"

    NESTED "nested"
    "the guest is a hypervisor: hardware takes over much of it if allowed (kvm_intel enable_shadow_vmcs, kvm_amd vls and vgif); else run the inner VMs beside it"

    SIGNALS "signals"
    "signals to the vCPUs' threads interrupt the guest: the VMM stops vCPUs for its own work (migration, memory changes, timers); the VMM's log or strace -f says which"
}
