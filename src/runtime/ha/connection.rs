//! One connection of a sender: opened when it is needed, one request in flight, given up when idle.
//!
//! A connection that was idle for 25 s is given up, and a request that meets a closed connection before the first
//! octet of an answer is sent once more on a new one (ha-protocol 8 no. 4). A connection whose request is given up is
//! reset: what of it has not arrived must not arrive any more, for it would come behind later requests. Certificates
//! and credentials are those in force when it is opened.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::ends::SharedEnds;
use crate::http::client::{ClientConnection, ClientError};
use crate::runtime::clock;
use crate::runtime::link::{Link, LinkError};
use crate::runtime::local::Inbox;
use crate::runtime::tls::ClientConfigs;

/// How long connecting and the handshake may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Why nothing can be sent to a peer that the relationship has not.
pub(super) const NO_SUCH_PEER: &str = "there is no such peer";

/// Why a request was not sent that is not to be sent any more: no trouble.
pub(super) const OVERTAKEN: &str = "overtaken by a change of state";

/// A connection to one peer, made when it is needed.
pub(super) struct Connection {
    ends: SharedEnds,
    peer: usize,
    octets_max: usize,
    resumes: Rc<Cell<bool>>,
    open: Option<(Link, ClientConnection)>,
    output: Vec<u8>,
    input: Vec<u8>,
}

impl Connection {
    /// A connection to the peer of index `peer`, whose answers have at most `octets_max` octets. TLS sessions are
    /// taken up again while `resumes` says so.
    pub fn new(ends: SharedEnds, peer: usize, octets_max: usize, resumes: Rc<Cell<bool>>) -> Self {
        Self { ends, peer, octets_max, resumes, open: None, output: Vec::new(), input: Vec::new() }
    }

    /// The next item of `inbox`; meanwhile a connection that stays idle for too long is closed.
    pub async fn next<T>(&mut self, inbox: &Inbox<T>) -> T {
        let idle_until = self.open.as_ref().and_then(|(_, http)| http.next_timeout());
        if let Some(until) = idle_until {
            let within = Duration::from_nanos(until.saturating_sub(clock::monotonic_ns()))
                .max(Duration::from_millis(1));
            match glommio::timer::timeout(within, async { Ok(inbox.pop().await) }).await {
                Ok(item) => return item,
                Err(_) => self.close().await,
            }
        }
        inbox.pop().await
    }

    /// Closes it, if it is open.
    pub async fn close(&mut self) {
        if let Some((link, _)) = self.open.take() {
            link.close().await;
        }
    }

    /// Sends `body` and gives the body of the answer, or why there is none. Every byte of the answer restarts the wait
    /// of `timeout_ms` (0: none), but everything together takes `limit_ms` at most. `is_wanted` is asked last before the
    /// body is sent, once there is a connection.
    pub async fn exchange(
        &mut self,
        body: &[u8],
        timeout_ms: u64,
        limit_ms: u64,
        is_wanted: impl Fn() -> bool,
    ) -> Result<Vec<u8>, String> {
        let until_ns = clock::monotonic_ns().saturating_add(limit_ms.saturating_mul(1_000_000));
        let mut attempt = self.attempt(body, timeout_ms, until_ns, &is_wanted).await;
        if let Err(Failure::Retry) = attempt {
            attempt = self.attempt(body, timeout_ms, until_ns, &is_wanted).await;
        }
        attempt.map_err(|failure| match failure {
            Failure::Final(reason) => reason,
            Failure::Retry => ClientError::Closed.to_string(),
        })
    }

    async fn attempt(
        &mut self,
        body: &[u8],
        timeout_ms: u64,
        until_ns: u64,
        is_wanted: &impl Fn() -> bool,
    ) -> Result<Vec<u8>, Failure> {
        if !is_wanted() {
            return Err(Failure::Final(OVERTAKEN.to_owned()));
        }
        let (mut link, mut http) = match self.open.take() {
            Some((link, http)) if http.is_usable(clock::monotonic_ns()) => (link, http),
            _ => self.connect(timeout_ms, until_ns).await.map_err(Failure::Final)?,
        };
        if !is_wanted() {
            self.open = Some((link, http));
            return Err(Failure::Final(OVERTAKEN.to_owned()));
        }
        self.output.clear();
        http.send(clock::monotonic_ns(), body, timeout_ms, &mut self.output);
        match self.converse(&mut link, &mut http, until_ns).await {
            Ok(body) => {
                if http.is_dead() {
                    link.close().await;
                } else {
                    self.open = Some((link, http));
                }
                Ok(body)
            }
            Err(failure) => {
                link.reset();
                Err(failure)
            }
        }
    }

    /// Sends what is in `output`, and waits for the answer.
    async fn converse(
        &mut self,
        link: &mut Link,
        http: &mut ClientConnection,
        until_ns: u64,
    ) -> Result<Vec<u8>, Failure> {
        let within = Duration::from_nanos(until_ns.saturating_sub(clock::monotonic_ns()));
        if let Err(error) = link.write(&self.output, within).await {
            return Err(Failure::of(error, http.may_retry()));
        }
        loop {
            let now_ns = clock::monotonic_ns();
            if now_ns >= until_ns {
                return Err(Failure::Final(ClientError::TimedOut.to_string()));
            }
            let at_ns = http.next_timeout().map_or(until_ns, |at| at.min(until_ns));
            let within = Some(Duration::from_nanos(at_ns.saturating_sub(now_ns)));
            self.input.clear();
            let may_retry = http.may_retry();
            let response = match link.read(&mut self.input, within).await {
                Ok(true) => http.handle_bytes(clock::monotonic_ns(), &self.input),
                Ok(false) if may_retry => return Err(Failure::Retry),
                Ok(false) => http
                    .handle_end()
                    .and_then(|response| response.map_or(Err(ClientError::Closed), |whole| Ok(Some(whole)))),
                Err(LinkError::TimedOut) => match http.handle_timeout(clock::monotonic_ns()) {
                    // The timer fired a moment early.
                    Ok(()) => continue,
                    Err(error) => Err(error),
                },
                Err(error) => return Err(Failure::of(error, may_retry)),
            };
            match response {
                Ok(None) => {}
                Ok(Some(response)) => return Ok(response.body),
                Err(error) => return Err(Failure::Final(error.to_string())),
            }
        }
    }

    async fn connect(&self, timeout_ms: u64, until_ns: u64) -> Result<(Link, ClientConnection), String> {
        let left = Duration::from_nanos(until_ns.saturating_sub(clock::monotonic_ns()));
        let within = match timeout_ms {
            0 => CONNECT_WITHIN,
            limit => CONNECT_WITHIN.min(Duration::from_millis(limit)).min(left),
        };
        if within.is_zero() {
            return Err(LinkError::TimedOut.to_string());
        }
        let ends = self.ends.current();
        let Some(end) = ends.peers.get(self.peer) else { return Err(NO_SUCH_PEER.to_owned()) };
        let choose =
            |tls: &'_ ClientConfigs| if self.resumes.get() { tls.resuming.clone() } else { tls.full.clone() };
        let link = match Link::connect(end.address, end.tls.as_ref().map(choose).as_ref(), within).await {
            // The peer may have a new certificate, which a whole handshake shows.
            Err(LinkError::Outlived) => {
                let full = end.tls.as_ref().map(|tls| &tls.full);
                Link::connect(end.address, full, within).await
            }
            connected => connected,
        };
        let link = link.map_err(|error| error.to_string())?;
        let target = end.target.clone();
        Ok((link, ClientConnection::with_body_limit(clock::monotonic_ns(), target, self.octets_max)))
    }
}

enum Failure {
    Final(String),
    /// The partner closed an idle connection at the moment it was used again.
    Retry,
}

impl Failure {
    fn of(error: LinkError, may_retry: bool) -> Self {
        match error {
            LinkError::Io(_) if may_retry => Self::Retry,
            error => Self::Final(error.to_string()),
        }
    }
}
