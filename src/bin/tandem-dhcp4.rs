//! The DHCPv4 server under Kea's command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    tandem::runtime::boot::dhcp4(std::env::args_os().skip(1))
}
