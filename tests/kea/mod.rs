//! A real Kea 2.2 as rival: the same conversations, the same replies.

mod conversation;
mod script;
mod server;
