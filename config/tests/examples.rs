//! The shipped examples load without a word to say about them.

use std::net::IpAddr;

use config::document::{InterfaceEntry, SocketType};
use config::ha::Role;
use config::ha_hub::Attachment;
use config::socket::ControlSocket;
use config::tandem::Durability;
use config::{ControlAgent, Document};

fn path(name: &str) -> String {
    format!("{}/examples/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn server(name: &str) -> Document {
    let loaded = config::load_dhcp4(&path(name)).expect("the example is good");
    assert_eq!(loaded.warnings, [], "{name}");
    loaded.document
}

#[test]
fn single_server_serves_two_subnets() {
    let document = server("single-server.conf");
    let interfaces: Vec<_> = document.interfaces.interfaces.iter().map(|entry| &entry.value).collect();
    assert_eq!(interfaces, [&InterfaceEntry::Name("eth0".to_owned())]);
    assert_eq!(*document.interfaces.socket_type, SocketType::Raw);
    assert_eq!(document.multi_threading.shards(), Some(2));
    assert_eq!(document.lease_database.name.as_ref().map(|name| name.as_str()), Some("kea-leases4.csv"));
    assert_eq!(*document.tandem.durability, Durability::Synced);
    assert!(document.hooks.lease_commands && document.hooks.high_availability.is_empty());
    assert_eq!(document.options.len(), 2);
    let pools: Vec<String> = document
        .subnets
        .iter()
        .flat_map(|subnet| subnet.pools.iter().map(move |pool| (subnet, pool.range.value)))
        .map(|(subnet, (first, last))| format!("{} {} {first}-{last}", *subnet.id, *subnet.prefix))
        .collect();
    assert_eq!(
        pools,
        ["1 192.0.2.0/24 192.0.2.100-192.0.2.199", "2 198.51.100.0/24 198.51.100.128-198.51.100.255",]
    );
    let scope = document.subnets[1].scope.inherit(&document.scope);
    assert_eq!(scope.valid_lifetime_s.map(|lifetime| lifetime.value), Some(14_400));
    assert_eq!(scope.cache_threshold.map(|share| share.value), Some(0.0));
}

#[test]
fn hot_standby_pair_agrees_but_for_the_point_of_view() {
    let primary = server("hot-standby-primary.conf");
    let standby = server("hot-standby-standby.conf");
    let (one, other) = (&primary.hooks.high_availability[0], &standby.hooks.high_availability[0]);
    assert_eq!((*one.own.role, *one.others[0].role), (Role::Primary, Role::Standby));
    assert_eq!((*other.own.role, *other.others[0].role), (Role::Standby, Role::Primary));
    for (left, right) in [(&one.own, &other.others[0]), (&one.others[0], &other.own)] {
        assert_eq!(left.name.value, right.name.value);
        assert_eq!(left.url.value, right.url.value);
        let files = |peer: &config::ha::Peer| {
            let tls = peer.tls.clone().expect("the pair speaks TLS");
            [tls.trust_anchor.value, tls.cert_file.value, tls.key_file.value]
        };
        assert_eq!(files(left), files(right));
        assert_eq!(files(left)[0], "/etc/kea/tls/CA.pem");
    }
    assert_eq!(*one.max_ack_delay_ms, 5000);
    assert_eq!((one.multi_threading.listeners(4), one.multi_threading.senders(4)), (4, 4));
    assert!(matches!(primary.control_sockets[..], [ControlSocket::Unix(_), ControlSocket::Http(_)]));
}

#[test]
fn the_hub_has_a_relationship_and_a_subnet_for_each_spoke() {
    let hub = server("hub.conf");
    let pairs: Vec<String> = hub
        .hooks
        .high_availability
        .iter()
        .map(|one| format!("{} {} {}", *one.own.name, one.own.url.address, *one.others[0].name))
        .collect();
    assert_eq!(pairs, ["hub1 192.0.2.10:8005 spoke1", "hub2 192.0.2.10:8006 spoke2"]);
    let whose: Vec<_> =
        hub.subnets.iter().map(|subnet| hub.hooks.attachment(&subnet.ha_server_name)).collect();
    assert_eq!(whose, [Attachment::Of(0), Attachment::Of(1)]);
}

#[test]
fn control_agent_knows_the_servers_socket() {
    let loaded = config::load_control_agent(&path("control-agent.conf")).expect("the example is good");
    assert_eq!(loaded.warnings, []);
    let agent: ControlAgent = loaded.document;
    assert_eq!(*agent.http_host, "192.0.2.11".parse::<IpAddr>().unwrap());
    assert_eq!(*agent.http_port, 8001);
    assert!(agent.tls.is_some() && *agent.cert_required);
    assert_eq!(agent.socket("dhcp4").map(|socket| socket.name.as_str()), Some("kea4-ctrl-socket"));
    assert!(agent.socket("dhcp6").is_none());
}

#[test]
fn every_example_has_a_test() {
    let folder = path("");
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "control-agent.conf",
            "hot-standby-primary.conf",
            "hot-standby-standby.conf",
            "hub.conf",
            "single-server.conf"
        ]
    );
}
