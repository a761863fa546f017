//! The command line of `tandem pki`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use super::pki::{self, Host, PkiError, VALID_DAYS_DEFAULT};

/// Makes a certificate authority, and for each host a key and a certificate for the HA channel (NAME_cert.pem) and
/// for its control socket or agent (ca1_cert.pem for the first host, ca2_cert.pem for the second, …), under the file
/// names of Kea's HA template. Copy CA.pem and what a host's configuration names to that host, and keep CA_key.pem
/// off both.
#[derive(Debug, Parser)]
#[command(name = "tandem pki")]
struct Arguments {
    /// Folder to write to; made if it is missing
    #[arg(long, value_name = "FOLDER")]
    dir: PathBuf,
    /// Name of a host and the address its partner reaches it under; once for each host
    #[arg(long = "host", value_name = "NAME=ADDRESS", required = true)]
    hosts: Vec<String>,
    /// How long the certificates are valid
    #[arg(long, value_name = "DAYS", default_value_t = VALID_DAYS_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=36500))]
    days: u32,
}

/// Runs `tandem pki` with the arguments after its name.
pub fn pki(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let name = OsString::from("tandem pki");
    let arguments = match Arguments::try_parse_from(std::iter::once(name).chain(arguments)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to standard output and is no failure; clap knows which is which.
            let code = u8::try_from(error.exit_code()).unwrap_or(1);
            return match error.print() {
                Ok(()) => ExitCode::from(code),
                Err(_) => ExitCode::FAILURE,
            };
        }
    };
    match create(&arguments) {
        Ok(written) => {
            for path in written {
                println!("{}", path.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("tandem pki: {error}");
            ExitCode::FAILURE
        }
    }
}

fn create(arguments: &Arguments) -> Result<Vec<PathBuf>, PkiError> {
    let hosts = arguments.hosts.iter().map(|text| Host::parse(text)).collect::<Result<Vec<_>, _>>()?;
    pki::create(&arguments.dir, &hosts, arguments.days)
}
