//! Serves one inbound HTTP connection, protected or not: the loop shared by the HA listener, the HTTP control
//! socket and the control agent.
//!
//! Owns a [`Link`] and an [`http::server::ServerConnection`](crate::http::server::ServerConnection); what a
//! request means is the handler's.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use glommio::net::TcpStream;
use glommio::sync::StaticPermit;
use rustls::ServerConfig;

use super::clock;
use super::link::{Link, LinkError};
use super::refusals::Refusals;
use crate::ha::lease_rows;
use crate::http::server::{Request, ServerConnection};
use crate::limits::{HTTP_RESPONSE_MS_PER_MIB, HTTP_RESPONSE_TOTAL_MS};

/// Capacity for answers that a connection keeps, octets.
const OUTPUT_KEPT_OCTETS: usize = 64 * 1024;

/// What a handler answers.
#[derive(Debug)]
pub enum Response {
    /// An HTTP error with Kea's object for a body.
    Error(u16),
    /// 200 with this JSON.
    Json(Vec<u8>),
    /// The same, of a list of leases, whose turn lasts until it is sent.
    List(Vec<u8>, StaticPermit),
    /// 200 with rows of leases.
    Rows(Vec<u8>),
}

/// Serves the connection until either side ends it; bodies of octets are taken beside JSON where `takes_octets`.
pub async fn serve<H, F>(
    tcp: TcpStream,
    peer: IpAddr,
    tls: Option<&Arc<ServerConfig>>,
    refusals: &Refusals,
    takes_octets: bool,
    handler: H,
) where
    H: Fn(Request) -> F,
    F: Future<Output = Response>,
{
    let mut link = match Link::accepted(tcp, tls) {
        Ok(link) => link,
        Err(error) => return refusals.refused(peer, &error.to_string()),
    };
    match link.accept_handshake().await {
        Ok(()) => {}
        Err(error) => return refusals.refused(peer, &error.to_string()),
    }
    match exchange(&mut link, peer, refusals, takes_octets, handler).await {
        Ok(()) => link.close().await,
        // With TLS 1.3 a client's certificate is checked after the handshake as the client sees it, so its
        // refusal of ours, too, comes with the first read.
        Err(LinkError::Tls(reason)) => refusals.refused(peer, &reason),
        Err(LinkError::Io(_) | LinkError::Outlived | LinkError::TimedOut) => {}
    }
}

async fn exchange<H, F>(
    link: &mut Link,
    peer: IpAddr,
    refusals: &Refusals,
    takes_octets: bool,
    handler: H,
) -> Result<(), LinkError>
where
    H: Fn(Request) -> F,
    F: Future<Output = Response>,
{
    let http = ServerConnection::new(clock::monotonic_ns());
    let mut http = if takes_octets { http.taking_octets() } else { http };
    let (mut input, mut output) = (Vec::new(), Vec::new());
    let mut known = false;
    loop {
        let deadline = http.next_timeout();
        let within = deadline.map(|at| Duration::from_nanos(at.saturating_sub(clock::monotonic_ns())));
        input.clear();
        match link.read(&mut input, within).await {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(LinkError::TimedOut) => {
                // The timer may fire a moment early; then the loop waits for the rest.
                http.handle_timeout(clock::monotonic_ns(), clock::wall_s(), &mut output);
                link.write(&output, may_take(&output)).await?;
                output.clear();
                if http.is_closing() {
                    return Ok(());
                }
                continue;
            }
            Err(error) => return Err(error),
        }
        if !std::mem::replace(&mut known, true) {
            refusals.accepted(peer);
        }
        let mut request = http.handle_bytes(clock::monotonic_ns(), clock::wall_s(), &input, &mut output);
        while let Some(whole) = request {
            let response = handler(whole).await;
            let mut turn = None;
            let (now_ns, wall_s) = (clock::monotonic_ns(), clock::wall_s());
            match response {
                Response::Error(status) => http.respond_error(now_ns, wall_s, status, &mut output),
                Response::Json(body) => http.respond(now_ns, wall_s, 200, &body, &mut output),
                Response::List(body, permit) => {
                    http.respond(now_ns, wall_s, 200, &body, &mut output);
                    drop(body);
                    turn = Some(permit);
                }
                Response::Rows(body) => {
                    http.respond_as(lease_rows::MEDIA_TYPE, now_ns, wall_s, 200, &body, &mut output);
                }
            }
            link.write(&output, may_take(&output)).await?;
            output.clear();
            // A connection lasts for days, and a list of all leases is asked for once.
            output.shrink_to(OUTPUT_KEPT_OCTETS);
            drop(turn);
            request = http.poll_request(clock::wall_s(), &mut output);
        }
        link.write(&output, may_take(&output)).await?;
        output.clear();
        if http.is_closing() {
            return Ok(());
        }
    }
}

/// How long the peer has for a response.
fn may_take(response: &[u8]) -> Duration {
    let mebibytes = u64::try_from(response.len() >> 20).unwrap_or(u64::MAX);
    let extra_ms = mebibytes.saturating_mul(HTTP_RESPONSE_MS_PER_MIB);
    Duration::from_millis(HTTP_RESPONSE_TOTAL_MS.saturating_add(extra_ms))
}
