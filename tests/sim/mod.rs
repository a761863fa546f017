//! Whole servers without a kernel, driven as the runtime drives them, in an order drawn from a seed.
//!
//! [`world`] is one server with time that stands still between steps; [`pair`] is two servers with clients, disks,
//! links and crashes in virtual time, and [`checks`] is what holds there at every moment.

mod allocation;
mod backups;
mod chaos;
mod checks;
mod clients;
mod edges;
mod hub;
mod limits;
mod mesh;
mod operators;
mod order;
mod pair;
mod partner;
mod scopes;
mod smoke;
mod standing;
mod tally;
mod world;
