//! End to end, over veth pairs in network namespaces that each test makes and removes. Needs root and the Debian
//! packages that `tests/run` installs.

mod backups;
mod clients;
mod control;
mod copying;
mod frames;
mod ha;
mod hub;
#[path = "../kea/mod.rs"]
mod kea;
mod leases;
mod malformed;
mod overload;
mod pair;
mod renewal;
mod shards;
mod support;
