//! Two servers, their clients, and everything between them that can go wrong, from one seed.
//!
//! | Module | What is in it |
//! |---|---|
//! | [`plan`] | what a seed stands for: sizes, faults, clocks |
//! | [`simulation`] | virtual time, the events and their order, the life of a run |
//! | [`chance`] | what goes wrong and when: crashes, cuts, resets, what clients take into their heads |
//! | [`server`] | one server: its disk, its clock, and its process while it lives |
//! | [`watch`] | what the checks look at after every event |
//! | [`engines`] | drives the engines: lanes, timers, journal writes, transmissions |
//! | [`disk`] | the lease file: written, synced, lost, torn, full |
//! | [`kea`], [`kea_server`] | a model of Kea as the partner |
//! | [`operators`] | what operators ask of servers |
//! | [`overtaking`] | who takes over from whom, and what kept that one from serving |
//! | [`links`] | which ways are cut |
//! | [`stream`] | byte streams between the servers: pieces, stalls, resets, cuts |
//! | [`sender`] | the sending end of the HA link over the real HTTP client |
//! | [`connections`], [`listener`] | the listening end over the real HTTP server |
//! | [`reload`] | another configuration for a server that runs |
//! | [`control`] | drives the real HA machine |
//! | [`population`] | the clients, by their real machine, and the network before them |
//!
//! Nothing here decides anything about DHCP or high availability: all of that is the servers' own code, but for the model
//! of Kea. What holds at every moment is in [`super::checks`].

pub mod chance;
pub mod connections;
pub mod control;
pub mod disk;
pub mod engines;
pub mod kea;
pub mod kea_server;
pub mod links;
pub mod listener;
pub mod operators;
pub mod overtaking;
pub mod plan;
pub mod population;
pub mod reload;
pub mod sender;
pub mod server;
pub mod simulation;
pub mod stream;
pub mod watch;
