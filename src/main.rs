//! `tandem`: the servers as sub-commands, and the tools around them. A table of contents.

use std::ffi::OsString;
use std::process::ExitCode;

use tandem::runtime::{boot, demo, pki_cli, status};

/// A sub-command: its name, what it is for, and what it runs with the arguments after its name.
type Command = (&'static str, &'static str, fn(Vec<OsString>) -> ExitCode);

const COMMANDS: &[Command] = &[
    ("dhcp4", "the DHCPv4 server, with Kea's options", |arguments| boot::dhcp4(arguments)),
    ("ctrl-agent", "the control agent, with Kea's options", |arguments| boot::control_agent(arguments)),
    ("demo", "a pair at work here: load, take-over, proof", |arguments| demo::demo(arguments)),
    ("pki", "a CA, and a key and certificate for each host", |arguments| pki_cli::pki(arguments)),
    ("status", "both partners at a glance", |arguments| status::status(arguments)),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next().unwrap_or_default();
    match COMMANDS.iter().find(|(known, ..)| name == *known) {
        Some((_, _, run)) => run(arguments.collect()),
        None => {
            eprintln!("Usage: tandem COMMAND [ARGUMENTS]\n");
            for (name, what, _) in COMMANDS {
                eprintln!("  {name:<12} {what}");
            }
            ExitCode::FAILURE
        }
    }
}
