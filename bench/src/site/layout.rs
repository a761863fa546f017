//! Names and addresses inside of the namespaces.

use std::net::Ipv4Addr;

/// Interface of the server under load, towards the clients.
pub const SERVER_INTERFACE: &str = "srv0";
/// Its address there.
pub const SERVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Interface of the standby towards the clients, where they reach it.
pub const STANDBY_CLIENTS_INTERFACE: &str = "srv1";
/// Its address there.
pub const STANDBY_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 3);
/// Interface of the clients.
pub const CLIENTS_INTERFACE: &str = "cli0";
/// Address there, which is the relay's.
pub const RELAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Length of the prefix of all of them.
pub const PREFIX_LENGTH: u8 = 8;
/// What clients are in.
pub const SUBNET: &str = "10.0.0.0/8";
/// What they get: more than a cell can ask for.
pub const POOL: &str = "10.1.0.0 - 10.250.255.255";

/// Interface of the primary towards its partner.
pub const PRIMARY_HA_INTERFACE: &str = "ha0";
/// Address of the primary there.
pub const PRIMARY_HA_ADDRESS: &str = "192.168.255.1";
/// Interface of the standby towards the primary, and the only one where clients do not reach it.
pub const STANDBY_INTERFACE: &str = "srv0";
/// Address of the standby.
pub const STANDBY_HA_ADDRESS: &str = "192.168.255.2";
