//! A world of one server: the engines of all its shards, driven as the runtime drives them, without a kernel.

mod allocation;
mod chaos;
mod clients;
mod limits;
mod mesh;
mod partner;
mod world;
