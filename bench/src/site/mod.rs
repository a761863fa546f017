//! A server under load in network namespaces: one cell.
//!
//! | Module | What it holds |
//! |---|---|
//! | [`namespaces`] | namespaces and links, and what a killed run left |
//! | [`process`] | a server as a child process |
//! | [`layout`] | names and addresses |
//! | [`kea`], [`dnsmasq`], [`dhcpd`] | what each server is told; Tandem reads what Kea reads |
//! | [`pair`] | the partner |
//!
//! A site belongs to one cell: the server starts with an empty lease file, and what was made is removed when
//! the site is dropped, whatever has happened.

pub mod dhcpd;
pub mod dnsmasq;
pub mod kea;
pub mod layout;
pub mod namespaces;
pub mod pair;
pub mod process;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use loadgen::report::Summary;
use tempfile::TempDir;

use crate::generator::{Generator, Way};
use crate::report::{Attachment, Cell, Channel, Parameters, Role, Server, States, Task, ThreadTime, profile};
use kea::Places;
use namespaces::Namespaces;
use pair::Pair;
use process::Process;

/// Folders in which Kea's hook libraries are looked for.
const HOOKS: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/kea/hooks",
    "/usr/lib/aarch64-linux-gnu/kea/hooks",
    "/usr/lib/kea/hooks",
    "/usr/lib64/kea/hooks",
];

/// How long a pair may take to become whole after its start.
const WHOLE: Duration = Duration::from_secs(60);

/// How long it may take when it was disturbed by a load.
const WHOLE_AGAIN: Duration = Duration::from_secs(15);

/// Where programs are.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Folder of `tandem-dhcp4`, `tandem-loadgen` and `tandem`.
    pub folder: PathBuf,
    /// Kea's DHCPv4 server, a path or a name to be found.
    pub kea: PathBuf,
    /// Folder of Kea's hook libraries, if it is none of the usual ones.
    pub kea_hooks: Option<PathBuf>,
    /// dnsmasq, likewise.
    pub dnsmasq: PathBuf,
    /// ISC's dhcpd, likewise.
    pub dhcpd: PathBuf,
}

impl Programs {
    fn server(&self, server: Server) -> PathBuf {
        match server {
            Server::Tandem => self.folder.join("tandem-dhcp4"),
            Server::Kea => self.kea.clone(),
            Server::Dnsmasq => self.dnsmasq.clone(),
            Server::Dhcpd => self.dhcpd.clone(),
            // A remote server is not started by us at all.
            Server::Reflector | Server::Remote => self.generator(),
        }
    }

    /// The load generator.
    pub fn generator(&self) -> PathBuf {
        self.folder.join("tandem-loadgen")
    }

    fn tandem(&self) -> PathBuf {
        self.folder.join("tandem")
    }

    fn hooks(&self) -> PathBuf {
        let usual = HOOKS.iter().map(PathBuf::from).find(|folder| folder.exists());
        self.kea_hooks.clone().or(usual).unwrap_or_default()
    }

    /// Checks that what `cells` need is there.
    ///
    /// # Errors
    /// Names what is missing.
    pub fn check(&self, servers: &[Server], pairs: bool) -> Result<()> {
        let mut ours = Vec::new();
        ours.extend(servers.contains(&Server::Tandem).then(|| self.server(Server::Tandem)));
        ours.push(self.generator());
        ours.extend(pairs.then(|| self.tandem()));
        for program in ours {
            ensure!(program.exists(), "{} is missing: build it, or give --programs", program.display());
        }
        for server in [Server::Kea, Server::Dnsmasq, Server::Dhcpd] {
            let program = self.server(server);
            let found = !servers.contains(&server) || is_there(&program);
            ensure!(found, "{} is missing: install it, or say where it is", program.display());
        }
        let hooks = self.hooks().join("libdhcp_ha.so");
        let needed = pairs && servers.contains(&Server::Kea);
        ensure!(!needed || hooks.exists(), "libdhcp_ha.so is missing: give --kea-hooks");
        Ok(())
    }
}

/// Whether a program can be started: a path that exists, or a name on the search path.
fn is_there(program: &Path) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    program.exists() || std::env::split_paths(&path).any(|folder| folder.join(program).exists())
}

/// Which servers of a pair clients reach.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// The primary, which has a link of its own to them.
    Primary,
    /// Both, on one bridge.
    Both,
}

/// One server, or one pair, under load. Fields are dropped in this order: processes, namespaces, files.
pub struct Site {
    cell: Cell,
    pair: Option<Pair>,
    primary: Process,
    generator: Generator,
    _namespaces: Namespaces,
    _folders: [TempDir; 2],
}

impl Site {
    /// Makes the namespaces and starts what `cell` asks for; its files go to a folder in `out`, which should
    /// lie on the disk that leases will lie on. `None` when told to stop.
    ///
    /// # Errors
    /// When a namespace cannot be made, a server does not open its port, or a pair does not become whole.
    pub fn start(
        cell: &Cell,
        reach: Reach,
        programs: &Programs,
        parameters: &Parameters,
        out: &Path,
        stop: &AtomicBool,
    ) -> Result<Option<Self>> {
        let folder = |parent: &Path| {
            let made = tempfile::Builder::new().prefix(&namespaces::own_prefix()).tempdir_in(parent);
            made.with_context(|| format!("making a folder in {}", parent.display()))
        };
        // Sockets have short paths only, so they do not lie in `out`.
        let folders = [folder(out)?, folder(&std::env::temp_dir())?];
        let mut namespaces = Namespaces::default();
        let starter = Starter {
            cell,
            reach,
            programs,
            parameters,
            files: folders[0].path(),
            sockets: folders[1].path(),
        };
        let (mut primary, clients) = starter.primary(&mut namespaces)?;
        let mut pair = match cell.ha {
            Some(_) => Some(starter.pair()?),
            None => None,
        };
        primary.wait_for_port()?;
        if let Some(pair) = &mut pair
            && !pair
                .wait_until_whole(WHOLE, stop)
                .with_context(|| format!("the primary said: {}", primary.said()))?
        {
            return Ok(None);
        }
        let way = match cell.attachment {
            Attachment::Direct => Way::Direct(layout::CLIENTS_INTERFACE.to_owned()),
            Attachment::Relayed => {
                let mut servers = vec![layout::SERVER_ADDRESS];
                servers.extend((reach == Reach::Both).then_some(layout::STANDBY_ADDRESS));
                Way::Relayed(Some(layout::RELAY_ADDRESS.to_string()), servers)
            }
        };
        let generator =
            Generator::new(programs.generator(), Some(clients), way, folders[0].path().to_owned(), 0);
        Ok(Some(Self { cell: *cell, pair, primary, generator, _namespaces: namespaces, _folders: folders }))
    }

    /// Offers `rate` exchanges a second; what they showed, and the CPU time that the servers used meanwhile. `None` when
    /// told to stop.
    ///
    /// # Errors
    /// When the generator fails or the server has ended.
    pub fn offer(
        &mut self,
        rate: f64,
        parameters: &Parameters,
        stop: &AtomicBool,
    ) -> Result<Option<(Summary, Vec<ThreadTime>)>> {
        let before = self.tasks();
        let summary = self.generator.offer(rate, parameters, stop)?;
        self.primary.ensure_running()?;
        let load_s = parameters.warm_up_s + parameters.probe_s;
        let used = before.iter().zip(self.tasks()).flat_map(|((role, before), (_, after))| {
            profile::used(*role, self.cell.server_of(*role), before, &after, load_s)
        });
        Ok(summary.map(|summary| (summary, used.collect())))
    }

    /// The threads of primary and standby.
    fn tasks(&self) -> Vec<(Role, Vec<Task>)> {
        let standby = self.pair.as_ref().map(|pair| (Role::Standby, pair.standby_tasks()));
        [(Role::Primary, self.primary.tasks())].into_iter().chain(standby).collect()
    }

    /// Process number of the primary.
    pub fn primary_id(&self) -> u32 {
        self.primary.id()
    }

    /// What makes its load.
    pub fn generator(&mut self) -> &mut Generator {
        &mut self.generator
    }

    /// The states of the pair, if it is one.
    pub fn states(&self) -> Option<States> {
        self.pair.as_ref().map(Pair::states)
    }

    /// Waits until the pair is as it should be again; `false` when told to stop or when that does not come.
    pub fn settle(&mut self, stop: &AtomicBool) -> bool {
        // A pair that does not come back is a result, not an error: it is marked.
        self.pair.as_mut().is_none_or(|pair| pair.wait_until_whole(WHOLE_AGAIN, stop).unwrap_or(false))
    }
}

/// What it takes to start the servers of a cell.
struct Starter<'a> {
    cell: &'a Cell,
    reach: Reach,
    programs: &'a Programs,
    parameters: &'a Parameters,
    files: &'a Path,
    sockets: &'a Path,
}

impl Starter<'_> {
    /// Makes the namespaces of server and clients and starts the server; it and the clients' namespace.
    fn primary(&self, namespaces: &mut Namespaces) -> Result<(Process, String)> {
        let (server, clients) = (namespaces.add("server")?, namespaces.add("clients")?);
        let with_length = |address| format!("{address}/{}", layout::PREFIX_LENGTH);
        let addresses =
            [layout::SERVER_ADDRESS, layout::RELAY_ADDRESS, layout::STANDBY_ADDRESS].map(with_length);
        let primary = (server.as_str(), layout::SERVER_INTERFACE, addresses[0].as_str());
        let relay = (clients.as_str(), layout::CLIENTS_INTERFACE, addresses[1].as_str());
        let standby = self.cell.ha.map(|_| namespaces.add("standby")).transpose()?;
        match &standby {
            Some(standby) if self.reach == Reach::Both => {
                let other = (standby.as_str(), layout::STANDBY_CLIENTS_INTERFACE, addresses[2].as_str());
                namespaces::bridge(relay, &[primary, other])?;
            }
            _ => namespaces::join(primary, relay)?,
        }
        if let Some(standby) = standby {
            namespaces::join(
                (&server, layout::PRIMARY_HA_INTERFACE, &format!("{}/30", layout::PRIMARY_HA_ADDRESS)),
                (&standby, layout::STANDBY_INTERFACE, &format!("{}/30", layout::STANDBY_HA_ADDRESS)),
            )?;
            self.certificates()?;
        }
        Ok((self.start(&server, Role::Primary)?, clients))
    }

    /// Starts the standby, whose namespace has been made.
    fn pair(&self) -> Result<Pair> {
        let process = self.start(&namespaces::named("standby"), Role::Standby)?;
        Ok(Pair::new(process, [Role::Primary, Role::Standby].map(|role| self.places(role).socket)))
    }

    fn certificates(&self) -> Result<()> {
        match self.cell.ha {
            Some(ha) if ha.channel == Channel::Tls => {
                pair::make_certificates(&self.programs.tandem(), &self.files.join("pki"))
            }
            _ => Ok(()),
        }
    }

    fn places(&self, role: Role) -> Places {
        Places {
            leases: self.files.join(kea::peer_name(role)),
            socket: self.sockets.join(kea::peer_name(role)),
            certificates: self.files.join("pki"),
            hooks: self.programs.hooks(),
        }
    }

    fn start(&self, namespace: &str, role: Role) -> Result<Process> {
        let places = self.places(role);
        let folder = &places.leases;
        fs::create_dir(folder).with_context(|| format!("making {}", folder.display()))?;
        let file = folder.join("configuration");
        let path = file.display().to_string();
        let server = self.cell.server_of(role);
        let (text, arguments) = match server {
            Server::Kea | Server::Tandem => {
                (kea::document(self.cell, role, self.reach, &places).to_string(), vec!["-c".to_owned(), path])
            }
            Server::Dnsmasq => (dnsmasq::configuration(folder), dnsmasq::arguments(&file)),
            Server::Dhcpd => {
                fs::write(dhcpd::leases(folder), "")?;
                (dhcpd::configuration(), dhcpd::arguments(&file, folder))
            }
            Server::Reflector | Server::Remote => {
                let listen = match self.cell.attachment {
                    Attachment::Direct => layout::SERVER_INTERFACE.to_owned(),
                    Attachment::Relayed => layout::SERVER_ADDRESS.to_string(),
                };
                (String::new(), vec!["reflector".to_owned(), listen])
            }
        };
        fs::write(&file, text)?;
        let cpus = cpus(role, self.cell, self.parameters);
        Process::start(namespace, &cpus, &self.programs.server(server), &arguments, folder)
    }
}

/// The CPUs of a server. Those of the partner are its own, unless the other one would be left without any. A Kea beside a
/// Tandem never shares one with it, so that it shows whose limit a pair is at: with too few, ours goes to the generator.
fn cpus(role: Role, cell: &Cell, parameters: &Parameters) -> Vec<usize> {
    let Parameters { server_cpus, partner_cpus, generator_cpus, .. } = parameters;
    let taken = |cpu: &usize| cell.ha.is_some() && partner_cpus.contains(cpu);
    let own: Vec<usize> = server_cpus.iter().copied().filter(|cpu| !taken(cpu)).collect();
    let mixed = cell.ha.is_some_and(|ha| ha.partner.is_some());
    match role {
        _ if mixed && own.is_empty() && cell.server_of(role) == Server::Kea => server_cpus.clone(),
        _ if mixed && own.is_empty() => generator_cpus.clone(),
        Role::Standby => partner_cpus.clone(),
        Role::Primary if own.is_empty() => server_cpus.clone(),
        Role::Primary => own,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Ha;
    use crate::report::tests::{fixed, measured};

    #[test]
    fn a_partner_has_cpus_of_its_own_where_there_are_enough() {
        let alone = measured(Server::Tandem, 1, 64, 0.0).cell;
        let pair =
            Cell { ha: Some(Ha { channel: Channel::Tls, listeners: 1, senders: 1, partner: None }), ..alone };
        let of = |server_cpus: &[usize], partner_cpus: &[usize], cell: &Cell| {
            let parameters = Parameters {
                server_cpus: server_cpus.to_vec(),
                partner_cpus: partner_cpus.to_vec(),
                ..fixed().parameters
            };
            [Role::Primary, Role::Standby].map(|role| cpus(role, cell, &parameters))
        };
        assert_eq!(of(&[0, 1, 2, 3], &[2, 3], &pair), [vec![0, 1], vec![2, 3]]);
        assert_eq!(of(&[0, 1, 2, 3], &[2, 3], &alone)[0], [0, 1, 2, 3]);
        assert_eq!(of(&[0], &[0], &pair), [vec![0], vec![0]], "too few for both");
        let mixed = |server, partner| Cell {
            server,
            ha: pair.ha.map(|ha| Ha { partner: Some(partner), ..ha }),
            ..alone
        };
        let (ours_first, kea_first) =
            (mixed(Server::Tandem, Server::Kea), mixed(Server::Kea, Server::Tandem));
        assert_eq!(of(&[0], &[0], &ours_first), [vec![1], vec![0]], "beside the generator");
        assert_eq!(of(&[0], &[0], &kea_first), [vec![0], vec![1]]);
        assert_eq!(of(&[0, 1, 2, 3], &[2, 3], &kea_first), [vec![0, 1], vec![2, 3]]);
    }

    #[test]
    fn a_program_that_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tandem-loadgen"), "").unwrap();
        let programs = Programs {
            folder: folder.path().to_owned(),
            kea: "no-such-kea".into(),
            kea_hooks: Some("/no/such/hooks".into()),
            dnsmasq: "no-such-dnsmasq".into(),
            dhcpd: "sh".into(),
        };
        let table: [(&[Server], bool, Option<&str>); 6] = [
            (&[], false, None),
            (&[Server::Tandem], false, Some("tandem-dhcp4")),
            (&[], true, Some("/tandem is missing")),
            (&[Server::Kea], false, Some("no-such-kea")),
            (&[Server::Dnsmasq], false, Some("no-such-dnsmasq")),
            (&[Server::Dhcpd], false, None),
        ];
        for (servers, pairs, missing) in table {
            let found = programs.check(servers, pairs).err().map(|error| error.to_string());
            match missing {
                None => assert_eq!(found, None, "{servers:?}"),
                Some(part) => assert!(found.is_some_and(|text| text.contains(part)), "{servers:?} {part}"),
            }
        }
    }
}
