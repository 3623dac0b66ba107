//! Copies its input to I/O port 0xE9 of the VM. Bochs writes what it gets there to its stdout, much faster than a serial port.
//!
//! This is a program of its own: `port_output.rs` compiles it and copies it into the VM.

use std::{
    arch::asm,
    ffi::{c_int, c_ulong},
    io::{self, Read as _},
};

const PORT: u16 = 0xe9;

unsafe extern "C" {
    safe fn ioperm(first_port: c_ulong, ports: c_ulong, allow: c_int) -> c_int;
}

fn main() -> io::Result<()> {
    if ioperm(PORT.into(), 1, 1) != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut input = io::stdin().lock();
    let mut buffer = [0; 4096];
    loop {
        let length = input.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        for byte in &buffer[..length] {
            // SAFETY: ioperm has allowed this process to use the port. The instruction accesses no memory.
            unsafe { asm!("out dx, al", in("dx") PORT, in("al") *byte, options(nomem, nostack)) };
        }
    }
}
