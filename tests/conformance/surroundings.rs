//! Faults of what is around a pair while it serves: a disk that fills up, clocks that drift apart, certificates that run
//! out. Each with a real Kea as the partner, too; afterwards both stores are compared row by row.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::security::over_tls;
use crate::states::{PAIRINGS, WHOLE};
use crate::support::authority::{Authority, DAY, now};
use crate::support::clients::{mac, macs};
use crate::support::load::Load;
use crate::support::plan::{N, Plan, Seat, name};
use crate::support::process::eventually;
use crate::support::rows;
use crate::support::site::{SOON, Site, TOGETHER};
use crate::{Scenario, scenario};

/// Faults that a real Kea has to live through beside a Tandem; H2 asks for the same of any fault.
pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::new();
    for (pairing, seats) in PAIRINGS {
        for full in [0, 1] {
            let name = format!("the_disk_of_server{}_is_full_{pairing}", full + 1);
            all.push(scenario(&["H2"], name, 25, move || disk(seats, full)));
        }
        let name = format!("clocks_drift_apart_and_are_put_right_{pairing}");
        all.push(scenario(&["C14", "H2"], name, 20, move || clocks(seats)));
        for ends in [0, 1] {
            if seats != [N, N] || ends == 0 {
                let name = format!("the_certificate_of_server{}_expires_in_use_{pairing}", ends + 1);
                all.push(scenario(&["H2"], name, 45, move || certificate(seats, ends)));
            }
        }
    }
    all
}

/// A file system of its own under the lease file of a server.
struct Disk {
    folder: PathBuf,
}

impl Disk {
    const FOLDER: &str = "disk";

    fn mount(site: &Site, server: usize) -> Self {
        let folder = site.members[server].folder.join(Self::FOLDER);
        std::fs::create_dir(&folder).expect("a folder");
        let options = ["-t", "tmpfs", "-o", "size=256k", "tmpfs"];
        let status = Command::new("mount").args(options).arg(&folder).status();
        assert!(status.expect("mount").success(), "a tmpfs");
        Self { folder }
    }

    fn leases(folder: &Path) -> PathBuf {
        folder.join(Self::FOLDER).join("leases.csv")
    }

    /// Leaves no room for anything, not even in the last page of a file.
    fn fill(&self) {
        let ballast = std::fs::File::create(self.folder.join("ballast")).expect("a file");
        let whole = std::io::copy(&mut std::io::repeat(b'x'), &mut &ballast);
        assert!(whole.is_err(), "the disk has no end");
        let leases = self.folder.join("leases.csv");
        let length = std::fs::metadata(&leases).expect("a lease file").len();
        println!("full with {length} octets of leases");
    }

    fn clear(&self) {
        std::fs::remove_file(self.folder.join("ballast")).expect("the ballast");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Its server may still hold it; then it goes with the server.
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

/// Goal: what cannot be kept is not promised, and nobody has to do more than make room. Method: the disk of one server
/// fills up under load and is cleared after a while; every client that was acknowledged meanwhile is looked for on the
/// disk of whoever acknowledged it.
fn disk(seats: [Seat; 2], full: usize) {
    let plan = Plan::hot_standby(seats).ha("max-unacked-clients", json!(1)).edit(move |server, dhcp4| {
        if server == full {
            let file = &mut dhcp4["lease-database"]["name"];
            let moved = Disk::leases(Path::new(file.as_str().expect("a path")).parent().expect("a folder"));
            *file = json!(moved.to_str().expect("a UTF-8 path"));
        }
    });
    let site = Site::new(plan);
    let disk = Disk::mount(&site, full);
    let site = site.until_whole("hot-standby");
    let mut load = Load::new(&site, 1);
    let before = load.during(Duration::from_millis(20), || {
        std::thread::sleep(Duration::from_secs(1));
        disk.fill();
        let before = SystemTime::now();
        std::thread::sleep(Duration::from_secs(8));
        if !site.is_kea(full) {
            // A standby needs clients that nobody answers for that.
            eventually("the partner serves alone", TOGETHER, || site.state(1 - full) == "partner-down");
        }
        before
    });
    // A page of the file system may have had room for some rows; whoever was acknowledged has one.
    let rows = [0, 1].map(|server| rows::read(&file(&site, server, full)));
    for (client, ack) in &load.held {
        let server = usize::from(ack.server.octets()[3] - 1);
        let row = rows[server].get(&ack.address);
        assert!(row.is_some(), "{client:02x?} has {ack:?}, server{} does not: {before:?}", server + 1);
    }
    if !site.is_kea(full) {
        assert_eq!(site.logged(full, "TANDEM_LEASE_FILE_FULL"), 1, "{}", site.log(full));
        let ack = site.clients.lease(mac(7, 1), &[]);
        assert_eq!(ack.server, site.lan_address(1 - full));
    }
    disk.clear();
    site.wait_for_states(&WHOLE, TOGETHER);
    load.finish(TOGETHER);
    site.clients.lease_all(&macs(8, 10));
    if !site.is_kea(full) {
        site.wait_for_log(full, "TANDEM_LEASE_FILE_HAS_ROOM");
        assert_eq!(site.logged(full, "TANDEM_LEASE_FILE_HAS_ROOM"), 1);
    }
    site.wait_for_equal_held([0, 1], TOGETHER);
    for (client, ack) in &load.held {
        let lease = site.lease(0, ack.address).expect("a lease");
        let hex: Vec<String> = client.iter().map(|octet| format!("{octet:02x}")).collect();
        assert_eq!(lease["hw-address"], hex.join(":"), "{ack:?}");
    }
}

fn file(site: &Site, server: usize, full: usize) -> PathBuf {
    let folder = &site.members[server].folder;
    if server == full { Disk::leases(folder) } else { folder.join("leases.csv") }
}

/// The clock of the second server drifts away while clients are served, and is put right again: 35 s are warned of, 65
/// end high availability, and whoever can heals by itself. A Kea 2.2 remembers how far apart it has found the clocks: told
/// to begin anew it is terminated again at once, measures once more, and is told again. Nobody touches it.
fn clocks(seats: [Seat; 2]) {
    let site = Site::new(Plan::hot_standby(seats)).with_clocks().until_whole("hot-standby");
    site.clients.lease_all(&macs(1, 10));
    site.set_clock(1, 35);
    let warned = |server| site.logged(server, "HA_HIGH_CLOCK_SKEW") > 0;
    eventually("a warning at each", SOON, || warned(0) && warned(1));
    assert_eq!([site.state(0), site.state(1)], WHOLE);
    site.clients.lease_all(&macs(2, 10));
    site.set_clock(1, 65);
    site.wait_for_states(&["terminated"; 2], TOGETHER);
    let ack = site.clients.lease(mac(3, 1), &[]);
    assert_eq!(ack.server, site.lan_address(0), "its own scope is served");
    site.set_clock(1, 0);
    eventually("the clock is right", SOON, || {
        let heartbeat = json!({ "command": "ha-heartbeat", "service": ["dhcp4"] });
        let answer = site.post(1, &heartbeat).answer();
        let date =
            answer["arguments"]["date-time"].as_str().and_then(|date| httpdate::parse_http_date(date).ok());
        let now = SystemTime::now() + Duration::from_secs(5);
        date.is_some_and(|date| date < now)
    });
    site.wait_for_states(&WHOLE, TOGETHER);
    site.clients.lease_all(&macs(4, 10));
    assert_eq!(site.wait_for_equal_stores([0, 1], TOGETHER), 31);
}

/// Goal: a certificate that ends while it is in use costs nobody anything, and the next connections take its successor.
/// Method: one server's ends 35 s from now and has a successor in its place as soon as the pair is whole; a Tandem finds
/// it, a Kea reads it when it is told to. The states are watched beyond the end.
fn certificate(seats: [Seat; 2], ends: usize) {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new(folder.path(), "CA");
    let end = now() + Duration::from_secs(35);
    authority.issue(folder.path(), &name(ends), end);
    authority.issue(folder.path(), &name(1 - ends), now() + DAY);
    let plan = over_tls(Plan::hot_standby(seats), folder.path().to_owned());
    let site = Site::whole(plan, "hot-standby");
    site.clients.lease_all(&macs(1, 10));
    authority.issue(folder.path(), &name(ends), now() + DAY);
    let (mut updated, mut clients) = (Instant::now(), 10);
    while now() < end + Duration::from_secs(2) {
        assert_eq!([site.state(0), site.state(1)], WHOLE, "{:?} before the end", end.checked_sub(now()));
        // A Kea closes what is idle for 30 s.
        if updated.elapsed() > Duration::from_secs(6) {
            updated = Instant::now();
            site.clients.lease_all(&macs(4, clients));
            clients += 10;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    // Connections that are open live on; a Kea shows a new one the certificate it has read at its start.
    site.clients.lease_all(&macs(2, 10));
    if site.is_kea(ends) {
        let changes = site.logged(ends, "HA_STATE_TRANSITION");
        site.signal(ends, "HUP");
        eventually("the Kea begins again", SOON, || site.logged(ends, "HA_STATE_TRANSITION") > changes);
    } else {
        site.wait_for_log(ends, "TANDEM_CERTIFICATES_REPLACED");
    }
    site.wait_for_states(&WHOLE, TOGETHER);
    site.clients.lease_all(&macs(3, 10));
    assert_eq!(site.wait_for_equal_stores([0, 1], TOGETHER), 20 + usize::from(clients));
}
