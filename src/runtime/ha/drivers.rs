//! The drivers of all HA machines of the server: one for each relationship, or one of the service switch without any.
//!
//! What comes from a shard names its relationship; what comes from an HA executor is that of its relationship. Commands
//! find theirs by [`dispatch`].

use std::rc::Rc;
use std::sync::Arc;

use config::Document;
use serde_json::Value;
use shards::NodeId;

use super::driver::HaDriver;
use crate::engine::message::Message;
use crate::ha::command::{HaCommand, Reply};
use crate::ha::dispatch::{self, Target};
use crate::ha::event::CommandSource;
use crate::ha::nodes::HaNodes;
use crate::ha::view::HaView;
use crate::runtime::control_node::ControlNode;

/// All drivers. Shared by `Rc` in their executor.
pub struct HaDrivers {
    control: Rc<ControlNode>,
    nodes: HaNodes,
    /// In the order of the relationships; there is one without any.
    drivers: Vec<Rc<HaDriver>>,
}

impl HaDrivers {
    /// Drivers of what `document` configures; they start at once.
    pub fn start(control: Rc<ControlNode>, document: &Document) -> Rc<Self> {
        let nodes = control.server().ha_nodes.clone();
        let relationships = &document.hooks.high_availability;
        let drivers = match relationships.as_slice() {
            [] => vec![HaDriver::start(control.clone(), None, nodes.clone())],
            several => (0u8..)
                .zip(several)
                .map(|(place, one)| HaDriver::start(control.clone(), Some((place, one)), nodes.clone()))
                .collect(),
        };
        let drivers = Rc::new(Self { control, nodes, drivers });
        drivers.control.set_farewell(drivers.clone().say_farewell());
        drivers
    }

    /// Has every partner told that the server stops, all at the same time.
    async fn say_farewell(self: Rc<Self>) {
        let farewells: Vec<_> =
            self.drivers.iter().map(|driver| glommio::spawn_local(driver.clone().say_farewell())).collect();
        for farewell in farewells {
            farewell.await;
        }
    }

    /// The view of the first relationship: the only one whose partner may come through the control channels.
    pub fn first_view(&self) -> Arc<HaView> {
        self.drivers[0].view()
    }

    /// Runs a command to its answer: one that came to a listener of the relationship `arrival`, or through a control
    /// channel.
    pub async fn command(&self, source: CommandSource, arrival: Option<usize>, command: HaCommand) -> Reply {
        let document = self.control.server().active().document;
        let named = |name: &str| document.hooks.named(name).map(usize::from);
        match dispatch::target(&command, arrival, self.drivers.len(), named) {
            Err(refusal) => refusal,
            Ok(Target::One(place)) => self.command_one(place, source, command).await,
            Ok(Target::Each) => {
                let mut reply = self.command_one(0, source, command.clone()).await;
                for place in 1..self.drivers.len() {
                    if !reply.is_success() {
                        break;
                    }
                    reply = self.command_one(place, source, command.clone()).await;
                }
                reply
            }
        }
    }

    async fn command_one(&self, place: usize, source: CommandSource, command: HaCommand) -> Reply {
        let Some(driver) = self.drivers.get(place) else {
            return Reply::error("there is no such relationship");
        };
        let shared = self.control.server().ha.get(place);
        let copier = shared.and_then(|shared| shared.standings.copier(source, &command));
        let reply = driver.command(source, command).await;
        if let (Some(shared), Some(peer)) = (shared, copier.filter(|_| reply.is_success())) {
            shared.standings.copied(peer);
        }
        reply
    }

    /// A document has come in force.
    pub fn reconfigure(&self, document: &Document) {
        let relationships = &document.hooks.high_availability;
        for (driver, relationship) in self.drivers.iter().zip(relationships) {
            driver.reconfigure(relationship);
        }
    }

    /// The relationship whose HA executor `node` is.
    pub fn relationship_of(&self, node: NodeId) -> Option<usize> {
        self.nodes.of(node, self.control.node().topology())
    }

    /// A message that concerns high availability: shards' reports and the senders' answers.
    pub fn handle_message(&self, from: NodeId, message: Message) {
        let place = match &message {
            Message::Unanswered(client) => Some(usize::from(client.relationship)),
            Message::Backlog(update) => Some(usize::from(update.relationship)),
            Message::UnsentUpdates { relationship, .. } | Message::UpdatesSettled { relationship, .. } => {
                Some(usize::from(*relationship))
            }
            _ => self.relationship_of(from),
        };
        match place.and_then(|place| self.drivers.get(place)) {
            Some(driver) => driver.handle_message(from, message),
            None => log::error!(
                target: "kea-dhcp4.dhcp4",
                "TANDEM_UNEXPECTED_MESSAGE the control node does not take {message:?} from {from:?}"
            ),
        }
    }

    /// `high-availability` of `status-get`: one entry for each relationship.
    pub fn status_high_availability(&self) -> Vec<Value> {
        let mut entries = Vec::new();
        for driver in &self.drivers {
            let Some(mut entry) = driver.status_high_availability() else { continue };
            if self.drivers.len() > 1 {
                // That of the server says only whether everybody is served.
                entry["tandem-dhcp-state"] = driver.status_dhcp_state();
            }
            entries.push(entry);
        }
        entries
    }

    /// `dhcp-state` of `status-get`.
    pub fn status_dhcp_state(&self) -> Value {
        let mut states: Vec<Value> = self.drivers.iter().map(|driver| driver.status_dhcp_state()).collect();
        match states.len() {
            1 => states.remove(0),
            _ => dispatch::dhcp_state(&states),
        }
    }
}
