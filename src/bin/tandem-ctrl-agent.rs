//! tandem-ctrl-agent.
fn main() {}
