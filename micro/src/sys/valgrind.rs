//! Client requests: a sequence of instructions that does nothing on a processor and that valgrind takes as a word
//! to it (`valgrind.h`, `callgrind.h`).

#![allow(unsafe_code)]

use std::ffi::CStr;

/// `VG_USERREQ__RUNNING_ON_VALGRIND`.
const RUNNING_ON_VALGRIND: u64 = 0x1001;
/// `VG_USERREQ_TOOL_BASE('C', 'T')`, where callgrind's own requests begin.
const CALLGRIND: u64 = ((b'C' as u64) << 24) | ((b'T' as u64) << 16);
/// `VG_USERREQ__ZERO_STATS`.
const ZERO_STATS: u64 = CALLGRIND + 1;
/// `VG_USERREQ__DUMP_STATS_AT`.
const DUMP_STATS_AT: u64 = CALLGRIND + 3;
/// `VG_USERREQ__START_INSTRUMENTATION`.
const START_INSTRUMENTATION: u64 = CALLGRIND + 4;
/// `VG_USERREQ__STOP_INSTRUMENTATION`.
const STOP_INSTRUMENTATION: u64 = CALLGRIND + 5;

/// Whether this process runs under valgrind.
pub fn is_running() -> bool {
    request(RUNNING_ON_VALGRIND, 0) != 0
}

/// Counts the instructions of `work`; callgrind writes the profile with `name` as its trigger.
pub fn count(name: &CStr, work: impl FnOnce()) {
    request(START_INSTRUMENTATION, 0);
    request(ZERO_STATS, 0);
    work();
    request(DUMP_STATS_AT, name.as_ptr() as u64);
    request(STOP_INSTRUMENTATION, 0);
}

/// The answer of valgrind, 0 without it.
#[cfg(target_arch = "x86_64")]
fn request(code: u64, argument: u64) -> u64 {
    let arguments = [code, argument, 0, 0, 0, 0];
    let mut answer = 0_u64;
    // SAFETY: on a processor the rotations add up to 128 bits, so rdi is as before, and rbx is exchanged with
    // itself. Under valgrind the request in `arguments` is carried out and rdx is set, which is the operand.
    unsafe {
        std::arch::asm!(
            "rol rdi, 3",
            "rol rdi, 13",
            "rol rdi, 61",
            "rol rdi, 51",
            "xchg rbx, rbx",
            in("rax") arguments.as_ptr(),
            inout("rdx") answer,
            options(nostack),
        );
    }
    answer
}

/// Elsewhere nobody is asked, as if there were no valgrind: the counts are kept for x86-64.
#[cfg(not(target_arch = "x86_64"))]
fn request(_code: u64, _argument: u64) -> u64 {
    0
}
