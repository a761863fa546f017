//! The HTTP control socket of the 3.x dialect (g.3): the same commands as the unix socket, over HTTP or HTTPS.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use glommio::net::TcpListener;
use rustls::ServerConfig;
use serde_json::Value;

use super::control_socket::CommandHandler;
use super::ha::acceptor;
use super::http_serve::{Response, serve};
use super::refusals::Refusals;
use crate::control::Answer;
use crate::ha::command::Reply;
use crate::ha::json;
use crate::limits::HA_CONNECTIONS_MAX;

/// A bound HTTP control socket.
pub struct HttpControlSocket {
    listener: TcpListener,
    address: SocketAddr,
    tls: SharedTls,
    refusals: Refusals,
}

/// Certificates of a socket that is served; what is put here counts from the next connection on.
pub type SharedTls = Rc<RefCell<Option<Arc<ServerConfig>>>>;

impl HttpControlSocket {
    /// Binds `address`; must be called inside an executor.
    ///
    /// # Errors
    /// The address is not this host's, the port is taken, or needs a privilege.
    pub fn bind(address: SocketAddr, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        let listener = acceptor::bind(address)?;
        let address = listener.local_addr()?;
        let listener = shards::sys::adopt::tcp_listener(listener.into());
        Ok(Self { listener, address, tls: Rc::new(RefCell::new(tls)), refusals: Refusals::default() })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The certificates, to be replaced while the socket is served.
    pub fn tls(&self) -> SharedTls {
        self.tls.clone()
    }

    /// Serves connections until the task is cancelled. `handler` gets the body of each request.
    pub async fn serve(self, handler: Rc<dyn HttpCommands>) {
        let open = Rc::new(Cell::new(0usize));
        loop {
            let tcp = match self.listener.accept().await {
                Ok(tcp) => tcp,
                Err(error) => {
                    log::warn!(target: "kea-dhcp4.http", "HTTP_CONNECTION_ACCEPT_FAILED accepting failed: {error}");
                    glommio::timer::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // The peer may have gone already.
            let Ok(peer) = tcp.peer_addr() else { continue };
            if open.get() >= HA_CONNECTIONS_MAX {
                self.refusals.refused(peer.ip(), &format!("more than {HA_CONNECTIONS_MAX} connections"));
                continue;
            }
            open.set(open.get() + 1);
            let (open, handler, tls, refusals) =
                (open.clone(), handler.clone(), self.tls.borrow().clone(), self.refusals.clone());
            glommio::spawn_local(async move {
                serve(tcp, peer.ip(), tls.as_ref(), &refusals, false, |request| {
                    handler.clone().run(request.body)
                })
                .await;
                open.set(open.get() - 1);
            })
            .detach();
        }
    }
}

/// What answers the bodies of requests.
pub trait HttpCommands {
    /// The answer to one body.
    fn run(self: Rc<Self>, body: Vec<u8>) -> std::pin::Pin<Box<dyn Future<Output = Response>>>;
}

/// The server's own commands over HTTP: services are checked (API-24), the answer becomes a list of one (API-21).
pub struct ServerCommands(pub CommandHandler);

impl HttpCommands for ServerCommands {
    fn run(self: Rc<Self>, body: Vec<u8>) -> std::pin::Pin<Box<dyn Future<Output = Response>>> {
        Box::pin(async move {
            let answer = match body.iter().all(u8::is_ascii_whitespace) {
                true => self.0(body).await,
                false => match json::decode(&body) {
                    Err(_) => return Response::Error(400),
                    Ok(value) => match check_service(&value) {
                        Err(reply) => reply.into(),
                        Ok(()) => self.0(body).await,
                    },
                },
            };
            let answer: Answer = answer;
            Response::Json(answer.render_list())
        })
    }
}

/// `service` may be absent, empty or `["dhcp4"]`.
fn check_service(request: &Value) -> Result<(), Reply> {
    match request.get("service") {
        None => Ok(()),
        Some(Value::Array(services)) => match services.as_slice() {
            [] => Ok(()),
            [Value::String(service)] if service == "dhcp4" => Ok(()),
            [Value::String(service)] => {
                Err(Reply::error(format!("unsupported service '{service}', expected 'dhcp4'")))
            }
            [_] => Err(Reply::error("service name is not a string")),
            _ => Err(Reply::error("the 'service' list must not have more than one element, 'dhcp4'")),
        },
        Some(_) => Err(Reply::error("service value must be a list")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_service_is_served() {
        for (request, expected) in [
            (r#"{"command":"a"}"#, None),
            (r#"{"command":"a","service":[]}"#, None),
            (r#"{"command":"a","service":["dhcp4"]}"#, None),
            (r#"{"command":"a","service":["dhcp6"]}"#, Some("unsupported service 'dhcp6', expected 'dhcp4'")),
            (r#"{"command":"a","service":["dhcp4","dhcp4"]}"#, Some("more than one")),
            (r#"{"command":"a","service":"dhcp4"}"#, Some("service value must be a list")),
            (r#"{"command":"a","service":[4]}"#, Some("not a string")),
            ("[]", None),
        ] {
            let error = check_service(&serde_json::from_str(request).unwrap()).err();
            match expected {
                None => assert_eq!(error, None, "{request}"),
                Some(expected) => assert!(error.unwrap().text.unwrap().contains(expected), "{request}"),
            }
        }
    }
}
