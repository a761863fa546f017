//! Who sits between two servers, or in the place of one: requests are read as a partner reads them, noted, and a
//! function decides what becomes of each.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::{Connection, Message};
use super::namespace::Namespace;
use super::process::eventually;
use super::site::SOON;

/// What becomes of a request.
pub enum Verdict {
    /// It is answered with these octets.
    Answer(Vec<u8>),
    /// The connection is closed without an answer.
    Close,
    /// There is no answer, and the connection stays open.
    Hang,
    /// The server behind answers it.
    Pass,
    /// The server behind gets it, and its answer is held back for a while.
    PassLate(Duration),
    /// The server behind gets it once this is true, also where it was given up long before.
    PassOnce(Arc<AtomicBool>),
    /// It is answered with these octets after a while.
    Late(Duration, Vec<u8>),
    /// It is answered with these octets once this is true.
    AnswerOnce(Arc<AtomicBool>, Vec<u8>),
}

/// A request with its answer, where there was one.
#[derive(Clone, Debug)]
pub struct Exchange {
    /// Which connection, from 0, in the order they were opened.
    pub connection: usize,
    /// More had come with it before it was answered.
    pub is_pipelined: bool,
    pub request: Message,
    pub answer: Option<Message>,
    /// When the answer was passed on.
    pub answered_at: Option<Instant>,
}

impl Exchange {
    /// The arguments of the command.
    pub fn arguments(&self) -> Value {
        self.request.json()["arguments"].clone()
    }

    /// The result in the answer; `None` without a readable one.
    pub fn result(&self) -> Option<i64> {
        let value: Value = serde_json::from_slice(&self.answer.as_ref()?.body).ok()?;
        value[0]["result"].as_i64()
    }
}

type Judge = dyn FnMut(&Message) -> Verdict + Send;

struct Shared {
    judge: Mutex<Box<Judge>>,
    /// By number, in the order of the requests.
    exchanges: Mutex<BTreeMap<usize, Exchange>>,
    requests: AtomicUsize,
    connections: AtomicUsize,
    stopped: AtomicBool,
}

/// A listener in a namespace, with a thread for each connection; it ends with the value.
pub struct Tap {
    shared: Arc<Shared>,
}

impl Tap {
    /// Listens at `at` in `host`, asks `judge` about every request, and passes on to `behind` (from the same host) what
    /// it lets pass.
    pub fn start(
        host: &Namespace,
        at: SocketAddr,
        behind: Option<SocketAddr>,
        judge: impl FnMut(&Message) -> Verdict + Send + 'static,
    ) -> Self {
        let listener = host.enter(|| TcpListener::bind(at)).unwrap_or_else(|error| panic!("{at}: {error}"));
        let shared = Arc::new(Shared {
            judge: Mutex::new(Box::new(judge)),
            exchanges: Mutex::default(),
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let (name, state) = (host.name().to_owned(), shared.clone());
        listener.set_nonblocking(true).expect("a listener that can be left");
        std::thread::spawn(move || {
            while !state.stopped.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                let number = state.connections.fetch_add(1, Ordering::Relaxed);
                let (state, name) = (state.clone(), name.clone());
                std::thread::spawn(move || state.serve(&name, stream, number, behind));
            }
        });
        Self { shared }
    }

    /// Another judge from now on.
    pub fn judge(&self, judge: impl FnMut(&Message) -> Verdict + Send + 'static) {
        *self.shared.judge.lock().expect("the judge") = Box::new(judge);
    }

    /// Everything so far, in the order of the requests.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.exchanges.lock().expect("the list").values().cloned().collect()
    }

    /// Those of one command.
    pub fn of(&self, command: &str) -> Vec<Exchange> {
        self.exchanges().into_iter().filter(|exchange| exchange.request.command() == command).collect()
    }

    /// Forgets what was noted.
    pub fn forget(&self) {
        self.shared.exchanges.lock().expect("the list").clear();
    }

    /// Waits until a request of this command has been answered after this moment, so that what the server does with the
    /// next one has nothing to do with what it is told now.
    pub fn wait_for_another(&self, command: &str) {
        let answered = || self.of(command).iter().filter(|exchange| exchange.answer.is_some()).count();
        let before = answered();
        eventually(&format!("another {command}"), SOON, || answered() > before);
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn serve(&self, host: &str, stream: TcpStream, number: usize, behind: Option<SocketAddr>) {
        let mut front = Connection::over(stream, Duration::from_secs(600));
        let mut back: Option<Connection> = None;
        while let Some(request) = front.receive() {
            if self.stopped.load(Ordering::Relaxed) {
                return;
            }
            let exchange = Exchange {
                connection: number,
                is_pipelined: front.has_more(),
                request: request.clone(),
                answer: None,
                answered_at: None,
            };
            let index = {
                let mut exchanges = self.exchanges.lock().expect("the list");
                let index = self.requests.fetch_add(1, Ordering::Relaxed);
                exchanges.insert(index, exchange);
                index
            };
            let verdict = (self.judge.lock().expect("the judge"))(&request);
            let (wait, octets) = match verdict {
                Verdict::Answer(octets) => (Duration::ZERO, octets),
                Verdict::Close => return,
                Verdict::Hang => continue,
                Verdict::Late(wait, octets) => (wait, octets),
                Verdict::AnswerOnce(may_answer, octets) => {
                    self.wait_for(&may_answer);
                    (Duration::ZERO, octets)
                }
                pass @ (Verdict::Pass | Verdict::PassLate(_) | Verdict::PassOnce(_)) => {
                    let wait = if let Verdict::PassLate(wait) = pass { wait } else { Duration::ZERO };
                    if let Verdict::PassOnce(may_pass) = pass {
                        self.wait_for(&may_pass);
                    }
                    let Some(answer) = self.pass(host, behind, &mut back, &request) else { return };
                    (wait, answer.octets())
                }
            };
            std::thread::sleep(wait);
            self.note(index, &octets);
            if std::io::Write::write_all(&mut front.stream, &octets).is_err() {
                return;
            }
        }
    }

    fn wait_for(&self, done: &AtomicBool) {
        while !done.load(Ordering::Relaxed) && !self.stopped.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn note(&self, index: usize, octets: &[u8]) {
        let text = octets.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = text else { return };
        let head = String::from_utf8_lossy(&octets[..end + 2]).into_owned();
        let answer = Message { head, body: octets[end + 4..].to_vec(), at: Instant::now() };
        // A list that was forgotten meanwhile has no place for it.
        if let Some(exchange) = self.exchanges.lock().expect("the list").get_mut(&index) {
            exchange.answer = Some(answer);
            exchange.answered_at = Some(Instant::now());
        }
    }

    /// Asks the server behind, over a connection that is kept; a kept one that is gone is made anew once.
    fn pass(
        &self,
        host: &str,
        behind: Option<SocketAddr>,
        back: &mut Option<Connection>,
        request: &Message,
    ) -> Option<Message> {
        let behind = behind.expect("a server behind");
        for _ in 0..2 {
            if self.stopped.load(Ordering::Relaxed) {
                return None;
            }
            if back.is_none() {
                let opened = super::namespace::enter_named(host, move || {
                    TcpStream::connect_timeout(&behind, Duration::from_secs(12))
                });
                *back = Some(Connection::over(opened.ok()?, Duration::from_secs(70)));
            }
            if let Some(connection) = back
                && std::io::Write::write_all(&mut connection.stream, &request.octets()).is_ok()
                && let Some(answer) = connection.receive()
            {
                return Some(answer);
            }
            *back = None;
        }
        None
    }
}
