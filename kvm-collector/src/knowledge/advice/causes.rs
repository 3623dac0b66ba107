//! Advice by what an exit is about: a register, a port, an address. (Numbers: see the tables of names.)

use super::{
    reasons,
    subject::{Cause, TimeBreakdown},
    topics::{self, Advice},
};

pub(super) fn advice(cause: Cause<'_>, time: TimeBreakdown) -> Option<Advice> {
    let Cause {
        kind,
        code,
        class,
        x86,
    } = cause;
    match kind {
        "msr" => msr(code),
        "pio" => Some(port(code, time)),
        "mmio" => Some(
            pc_device(code)
                .filter(|_| x86)
                .unwrap_or_else(|| reasons::mmio(time)),
        ),
        "cpuid" => Some(topics::CPUID),
        "page-fault" => Some(topics::FAULTS),
        "hypercall" => Some(match code {
            10 => topics::IPI,
            _ => topics::HYPERCALL,
        }),
        "userspace" if class.cast_signed() < 0 => Some(topics::SIGNALS).filter(|_| class == EINTR),
        "userspace" => userspace(code),
        _ => None,
    }
}

const EINTR: u32 = (-4_i32).cast_unsigned();

fn msr(msr: u64) -> Option<Advice> {
    let advice = match msr {
        0x830 | 0x83f | 0x4000_0071 => topics::IPI,
        0x6e0 | 0x832 | 0x838 | 0x839 | 0x4000_00b0..=0x4000_00b7 => topics::TIMER,
        0x800..=0x8ff | 0x4000_0070 | 0x4000_0072 => topics::APIC,
        0x48 | 0x49 | 0x10b | 0xc001_011f => topics::MITIGATIONS,
        0x10 | 0x4000_0020 => topics::CLOCK,
        0xc1..=0xc8
        | 0x186..=0x18d
        | 0x309..=0x30c
        | 0x38d..=0x390
        | 0x4c1..=0x4c8
        | 0xc000_0300..=0xc000_0302
        | 0xc001_0000..=0xc001_0007
        | 0xc001_0200..=0xc001_020b => topics::PMU,
        _ => return None,
    };
    Some(advice)
}

fn port(port: u64, time: TimeBreakdown) -> Advice {
    match port {
        0x2e8..=0x2ef | 0x2f8..=0x2ff | 0x3e8..=0x3ef | 0x3f8..=0x3ff => topics::SERIAL,
        0x40..=0x43 | 0x61 | 0x70 | 0x71 | 0x608..=0x60b | 0xb008..=0xb00b => topics::CLOCK,
        0x170..=0x177 | 0x1f0..=0x1f7 | 0x376 | 0x3f6 => topics::IDE,
        0xcf8 | 0xcfc..=0xcff => topics::PCI_CONFIG,
        0x80 | 0xe9 | 0x402 => topics::DEBUG_PORT,
        0x1ce..=0x1d0 | 0x3b4..=0x3ba | 0x3c0..=0x3da => topics::VGA,
        _ => reasons::io(time),
    }
}

/// What every PC has at the same address.
fn pc_device(address: u64) -> Option<Advice> {
    let advice = match address {
        0xfee0_0300 | 0xfee0_0310 => topics::IPI,
        0xfee0_0320 | 0xfee0_0380 | 0xfee0_0390 => topics::TIMER,
        0xfee0_0000..=0xfee0_0fff => topics::APIC,
        0xfed0_0000..=0xfed0_03ff => topics::CLOCK,
        0xa_0000..=0xb_ffff => topics::VGA,
        _ => return None,
    };
    Some(advice)
}

fn userspace(reason: u64) -> Option<Advice> {
    let advice = match reason {
        2 => topics::IO_VMM,
        5 => topics::HALT_IN_VMM,
        6 => topics::MMIO_VMM,
        10 => topics::SIGNALS,
        31 => topics::DIRTY_LOG,
        33 => topics::BUS_LOCK,
        37 => topics::NOTIFY,
        _ => return None,
    };
    Some(advice)
}
