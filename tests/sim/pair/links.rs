//! Which ways are cut: between servers, and between each server and its clients, each direction by itself.

/// Servers at most.
pub const SERVERS_MAX: usize = 3;

/// Seats at most: places of a server in a relationship. Each server has one, by its own number, and a hub a second one.
pub const SEATS_MAX: usize = SERVERS_MAX + 1;

/// The server that has a seat.
pub fn host_of(seat: usize) -> usize {
    if seat < SERVERS_MAX { seat } else { 0 }
}

/// Which of its server's relationships a seat is in.
pub fn place_of(seat: usize) -> usize {
    usize::from(seat >= SERVERS_MAX)
}

/// The seat of a server in its relationship at `place`.
pub fn seat_of(server: usize, place: usize) -> usize {
    if place == 0 { server } else { SERVERS_MAX }
}

/// One direction of one link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cut {
    /// What the first server sends the second.
    Between(usize, usize),
    /// What a server sends its clients.
    ToClients(usize),
    /// What clients send a server.
    FromClients(usize),
}

/// How often each direction is cut: it is whole again when every cut is mended.
#[derive(Debug, Default)]
pub struct Links {
    between: [[u32; SERVERS_MAX]; SERVERS_MAX],
    to_clients: [u32; SERVERS_MAX],
    from_clients: [u32; SERVERS_MAX],
}

impl Links {
    pub fn is_open(&self, way: Cut) -> bool {
        match way {
            Cut::Between(from, to) => self.between[from][to] == 0,
            Cut::ToClients(server) => self.to_clients[server] == 0,
            Cut::FromClients(server) => self.from_clients[server] == 0,
        }
    }

    pub fn cut(&mut self, way: Cut) {
        *self.count(way) += 1;
    }

    /// Takes back one cut.
    pub fn mend(&mut self, way: Cut) {
        let count = self.count(way);
        *count = count.saturating_sub(1);
    }

    fn count(&mut self, way: Cut) -> &mut u32 {
        match way {
            Cut::Between(from, to) => &mut self.between[from][to],
            Cut::ToClients(server) => &mut self.to_clients[server],
            Cut::FromClients(server) => &mut self.from_clients[server],
        }
    }
}
