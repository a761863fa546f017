//! Servers on hosts of their own: loaded from here, and told what they may be told while they run.
//!
//! What cannot be set by command is not varied: it is read from the server's configuration and stands in the
//! report as what was measured. What was set is put back at the end.

mod control;

use std::cell::{Cell as Flag, RefCell};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use loadgen::report::Summary;
use serde_json::{Value, json};

use crate::generator::{Generator, Way};
use crate::report::{Attachment, Cell, Channel, Durability, Ha, Parameters, Remote, Server, States};
use control::Control;

/// What the command line says of the hosts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Address of the server.
    pub server: Ipv4Addr,
    /// Address of its partner.
    pub partner: Option<Ipv4Addr>,
    /// URL for commands.
    pub control: Option<String>,
    /// Address of the relay, or interface of neighbours.
    pub local: Option<String>,
    /// How clients reach them.
    pub attachment: Attachment,
    /// What ACKs wait for, where no command tells.
    pub durability: Option<Durability>,
    /// The load generator.
    pub generator: PathBuf,
    /// Folder for its files.
    pub folder: PathBuf,
}

/// Hosts under load.
pub struct Host {
    options: Options,
    control: Option<Control>,
    /// The configuration as it was found.
    original: Value,
    name: String,
    known: Cell,
    generator: RefCell<Generator>,
    changed: Flag<bool>,
}

impl Host {
    /// Asks the server what it is, if it may be asked.
    ///
    /// # Errors
    /// When it does not answer, or when too little is said about it.
    pub fn find(options: Options) -> Result<Self> {
        let control = options.control.as_deref().map(Control::parse).transpose()?;
        let (original, name) = match &control {
            Some(control) => {
                let version = control.ask("version-get", None)?;
                (
                    control.ask("config-get", None)?,
                    version["extended"].as_str().unwrap_or_default().to_owned(),
                )
            }
            None => (Value::Null, String::new()),
        };
        let known = known(&original, &name, &options)?;
        let way = match (options.attachment, &options.local) {
            (Attachment::Direct, Some(interface)) => Way::Direct(interface.clone()),
            (Attachment::Direct, None) => bail!("--attachment direct needs --local INTERFACE with --server"),
            (Attachment::Relayed, local) => {
                Way::Relayed(local.clone(), std::iter::once(options.server).chain(options.partner).collect())
            }
        };
        let generator =
            Generator::new(options.generator.clone(), None, way, options.folder.clone(), first_client());
        let name = named(&name);
        let (generator, changed) = (RefCell::new(generator), Flag::new(false));
        Ok(Self { options, control, original, name, known, generator, changed })
    }

    /// What is known of the server's configuration.
    pub fn known(&self) -> Cell {
        self.known
    }

    /// What is measured, for people.
    pub fn words(&self) -> String {
        let Self { options, name, known, .. } = self;
        let name = if name.is_empty() { "a server" } else { name };
        let number =
            |number: Option<u32>| number.map_or_else(|| "unknown".to_owned(), |number| number.to_string());
        let pair = known.ha.map_or_else(String::new, |ha| {
            format!(
                ", one of a pair {} ({} listeners, {} senders)",
                ha.channel.name(),
                ha.listeners,
                ha.senders
            )
        });
        format!(
            "{name} at {}: threads {}, queue {}, ACKs {}{pair}",
            options.server,
            number(known.threads.map(u32::from)),
            number(known.queue),
            known.durability.name()
        )
    }

    /// What the report says of it.
    pub fn described(&self) -> Remote {
        let Options { server, partner, control, .. } = &self.options;
        Remote { server: *server, partner: *partner, name: self.name.clone(), control: control.clone() }
    }

    /// Puts threads and queue of `cell` in force.
    ///
    /// # Errors
    /// With the server's own words when it cannot change them while it runs.
    pub fn set(&self, cell: &Cell) -> Result<()> {
        let Some(control) = &self.control else { return Ok(()) };
        if !self.changed.get() && sizes(cell) == sizes(&self.known) {
            return Ok(());
        }
        control.ask("config-set", Some(&changed(&self.original, cell))).with_context(|| {
            format!(
                "{} does not take threads {} and queue {} while it runs; start it with each value that is to be \
                 measured, and give each an --out of its own",
                self.options.server,
                cell.threads.unwrap_or_default(),
                cell.queue.unwrap_or_default()
            )
        })?;
        self.changed.set(true);
        let now = control.ask("config-get", None)?;
        let in_force = known(&now, &self.name, &self.options)?;
        ensure!(
            sizes(&in_force) == sizes(cell),
            "{} took the configuration and has other threads or another queue than asked for",
            self.options.server
        );
        Ok(())
    }

    /// Offers `rate` exchanges a second; `None` when told to stop.
    ///
    /// # Errors
    /// When the generator fails.
    pub fn offer(&self, rate: f64, parameters: &Parameters, stop: &AtomicBool) -> Result<Option<Summary>> {
        self.generator.borrow_mut().offer(rate, parameters, stop)
    }

    /// The states of the pair, if the server is one of a pair and may be asked.
    pub fn states(&self) -> Option<States> {
        self.known.ha?;
        let status = self.control.as_ref()?.ask("status-get", None).unwrap_or_default();
        Some(states(&status))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if let Some(control) = self.control.as_ref().filter(|_| self.changed.get()) {
            match control.ask("config-set", Some(&restored(&self.original))) {
                Ok(_) => eprintln!("{} has its own configuration again", self.options.server),
                Err(error) => {
                    eprintln!("tandem-bench: {} keeps what was set: {error:#}", self.options.server)
                }
            }
        }
    }
}

fn sizes(cell: &Cell) -> (Option<u16>, Option<u32>) {
    (cell.threads, cell.queue)
}

/// Program and release, from the long text of `version-get`.
fn named(version: &str) -> String {
    let program = if is_tandem(version) { "Tandem" } else { "Kea" };
    version.lines().next().map_or_else(String::new, |release| format!("{program} {release}"))
}

fn is_tandem(version: &str) -> bool {
    version.to_lowercase().contains("tandem")
}

/// What a configuration says; of what it does not say, what we were told.
fn known(document: &Value, version: &str, options: &Options) -> Result<Cell> {
    let dhcp4 = &document["Dhcp4"];
    let threading = &dhcp4["multi-threading"];
    let number = |value: &Value| value.as_u64().filter(|number| *number > 0);
    let durability = match (&options.control, is_tandem(version)) {
        (None, _) => options.durability.context(
            "--server needs --control URL, which tells what the server is, or --durability with what its ACKs wait for",
        )?,
        (Some(_), false) => options.durability.unwrap_or(Durability::Written),
        (Some(_), true) => match dhcp4["user-context"]["tandem"]["durability"].as_str() {
            Some("written") => Durability::Written,
            _ => Durability::Synced,
        },
    };
    Ok(Cell {
        server: Server::Remote,
        threads: number(&threading["thread-pool-size"]).and_then(|number| u16::try_from(number).ok()),
        queue: number(&threading["packet-queue-size"]).and_then(|number| u32::try_from(number).ok()),
        durability,
        ha: pair(dhcp4),
        attachment: options.attachment,
    })
}

fn pair(dhcp4: &Value) -> Option<Ha> {
    let libraries = dhcp4["hooks-libraries"].as_array()?;
    let block = libraries.iter().find_map(|library| library.pointer("/parameters/high-availability/0"))?;
    let number =
        |key: &str| block["multi-threading"][key].as_u64().and_then(|number| u16::try_from(number).ok());
    let peers = block["peers"].as_array().into_iter().flatten();
    let mut places = std::iter::once(block).chain(peers);
    let tls = places.any(|place| place["trust-anchor"].is_string());
    Some(Ha {
        channel: if tls { Channel::Tls } else { Channel::Plain },
        listeners: number("http-listener-threads").unwrap_or(0),
        senders: number("http-client-threads").unwrap_or(0),
        partner: None,
    })
}

/// The configuration as it was found, as a server takes it back: the hash that goes with it is not part of it.
fn restored(original: &Value) -> Value {
    json!({ "Dhcp4": original["Dhcp4"] })
}

fn changed(original: &Value, cell: &Cell) -> Value {
    let mut document = restored(original);
    let threading = &mut document["Dhcp4"]["multi-threading"];
    threading["enable-multi-threading"] = json!(true);
    threading["thread-pool-size"] = json!(cell.threads.unwrap_or(0));
    threading["packet-queue-size"] = json!(cell.queue.unwrap_or(0));
    document
}

/// What the server says of itself and of its partner.
fn states(status: &Value) -> States {
    let servers = &status["high-availability"][0]["ha-servers"];
    let state = |value: &Value| value.as_str().unwrap_or("unreachable").to_owned();
    States { primary: state(&servers["local"]["state"]), standby: state(&servers["remote"]["last-state"]) }
}

/// A number from which on no earlier run has used clients: more are left free for each second than any
/// generator can use.
fn first_client() -> u32 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // The lower half is left to the clients; of the upper one the lowest bits count, so that it comes around.
    ((seconds & 0xffff) << 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(control: bool, durability: Option<Durability>) -> Options {
        Options {
            server: Ipv4Addr::new(192, 0, 2, 1),
            partner: None,
            control: control.then(|| "http://192.0.2.1/".into()),
            local: None,
            attachment: Attachment::Relayed,
            durability,
            generator: PathBuf::new(),
            folder: PathBuf::new(),
        }
    }

    fn document() -> Value {
        json!({ "hash": "x", "Dhcp4": {
            "multi-threading": { "thread-pool-size": 4, "packet-queue-size": 64 },
            "hooks-libraries": [
                { "library": "libdhcp_lease_cmds.so" },
                { "library": "libdhcp_ha.so", "parameters": { "high-availability": [ {
                    "multi-threading": { "http-listener-threads": 2, "http-client-threads": 3 },
                    "peers": [ { "name": "server1", "trust-anchor": "/CA.pem" } ],
                } ] } },
            ],
        } })
    }

    #[test]
    fn a_configuration_tells_what_is_measured() {
        let found = known(&document(), "2.2.0", &options(true, None)).unwrap();
        assert_eq!((found.threads, found.queue, found.durability), (Some(4), Some(64), Durability::Written));
        assert_eq!(found.ha, Some(Ha { channel: Channel::Tls, listeners: 2, senders: 3, partner: None }));
        let ours = known(&json!({ "Dhcp4": {} }), "3.0.0+tandem.0.1.0", &options(true, None)).unwrap();
        assert_eq!((ours.threads, ours.durability, ours.ha), (None, Durability::Synced, None));
    }

    #[test]
    fn the_name_tells_the_program_and_its_release() {
        for (version, name) in
            [("2.2.0\nlinked with", "Kea 2.2.0"), ("2.2.0\nTandem 0.1.0", "Tandem 2.2.0"), ("", "")]
        {
            assert_eq!(named(version), name);
        }
    }

    #[test]
    fn without_commands_someone_has_to_say_what_an_ack_waits_for() {
        assert!(
            known(&Value::Null, "", &options(false, None)).unwrap_err().to_string().contains("--durability")
        );
        let found = known(&Value::Null, "", &options(false, Some(Durability::Synced))).unwrap();
        assert_eq!(
            (found.server, found.threads, found.durability),
            (Server::Remote, None, Durability::Synced)
        );
    }

    #[test]
    fn a_changed_configuration_differs_in_threads_and_queue_alone() {
        let cell = Cell {
            threads: Some(1),
            queue: Some(16),
            ..known(&document(), "", &options(true, None)).unwrap()
        };
        let mut found = changed(&document(), &cell);
        assert_eq!(found["Dhcp4"]["multi-threading"]["thread-pool-size"], 1);
        found["Dhcp4"]["multi-threading"] = document()["Dhcp4"]["multi-threading"].clone();
        assert_eq!(found, restored(&document()));
        assert!(found["hash"].is_null());
    }

    #[test]
    fn states_are_those_of_the_server_and_of_what_it_last_heard() {
        let status = json!({ "high-availability": [ { "ha-servers": {
            "local": { "state": "hot-standby" }, "remote": { "last-state": "ready" },
        } } ] });
        assert_eq!(states(&status), States { primary: "hot-standby".into(), standby: "ready".into() });
        assert_eq!(states(&Value::Null).primary, "unreachable");
    }
}
