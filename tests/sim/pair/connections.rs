//! Connections a server has accepted: bytes in, requests out, answers back, through the real HTTP server.

use tandem::http::server::ServerConnection;

use super::simulation::Simulation;
use super::stream::{Piece, StreamId, Way};

impl Simulation {
    /// Bytes, or the end of the stream, have come from a peer.
    pub fn listener_input(&mut self, server: usize, stream: StreamId, piece: Piece) {
        let now = self.clock_of(server);
        let Some(http) = self.servers[server].connections.get_mut(&stream) else { return };
        let mut output = Vec::new();
        let request = match piece {
            Piece::Bytes(bytes) => http.handle_bytes(now.monotonic_ns, now.wall_s(), &bytes, &mut output),
            Piece::End => {
                self.servers[server].connections.remove(&stream);
                self.write_piece(stream, Way::ToOpener, Piece::End);
                return;
            }
        };
        self.write_stream(stream, Way::ToOpener, &output);
        match request {
            Some(request) => self.handle_request(server, stream, &request),
            None => self.close_if_closing(server, stream),
        }
    }

    /// Answers the request of a connection, if it is still there.
    pub fn respond(&mut self, server: usize, stream: StreamId, body: &[u8]) {
        let now = self.clock_of(server);
        let Some(http) = self.servers[server].connections.get_mut(&stream) else { return };
        let mut output = Vec::new();
        http.respond(now.monotonic_ns, now.wall_s(), 200, body, &mut output);
        let next = http.poll_request(now.wall_s(), &mut output);
        self.write_stream(stream, Way::ToOpener, &output);
        match next {
            Some(request) => self.handle_request(server, stream, &request),
            None => self.close_if_closing(server, stream),
        }
    }

    fn close_if_closing(&mut self, server: usize, stream: StreamId) {
        let connections = &mut self.servers[server].connections;
        if connections.get(&stream).is_some_and(ServerConnection::is_closing) {
            connections.remove(&stream);
            self.write_piece(stream, Way::ToOpener, Piece::End);
        }
    }

    /// Looks at the deadlines of connections.
    pub fn run_connection_timers(&mut self, server: usize) {
        let now = self.clock_of(server);
        let mut outputs = Vec::new();
        for (stream, http) in &mut self.servers[server].connections {
            if http.next_timeout().is_some_and(|at_ns| at_ns <= now.monotonic_ns) {
                let mut output = Vec::new();
                http.handle_timeout(now.monotonic_ns, now.wall_s(), &mut output);
                outputs.push((*stream, output));
            }
        }
        for (stream, output) in outputs {
            self.write_stream(stream, Way::ToOpener, &output);
            self.close_if_closing(server, stream);
        }
    }
}
