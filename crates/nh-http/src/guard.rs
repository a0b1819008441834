use std::net::{IpAddr, SocketAddr, UdpSocket};

use ipnet::IpNet;

use crate::address::{embedded_v4, why_not_public};
use crate::error::HttpError;
use crate::settings::HttpSettings;

/// Decides about each address just before it is connected to; what it allowed
/// is what is connected to, so a name cannot change its mind in between.
#[derive(Clone, Debug)]
pub struct Guard {
    allow_networks: Vec<IpNet>,
    own_listeners: Vec<SocketAddr>,
}

impl Guard {
    pub fn new(settings: &HttpSettings, own_listeners: Vec<SocketAddr>) -> Self {
        Self { allow_networks: settings.allow_networks.clone(), own_listeners }
    }

    /// `host` is only for the message.
    pub fn check(&self, host: &str, target: SocketAddr) -> Result<(), HttpError> {
        let address = target.ip().to_canonical();
        if self.is_own(target) {
            return Err(HttpError::OwnListener { host: host.to_owned(), address });
        }
        match why_not_public(address) {
            Some(reason) if !self.allow_networks.iter().any(|network| network.contains(&address)) => {
                Err(HttpError::Refused { host: host.to_owned(), address, reason })
            }
            _public_or_allowed => Ok(()),
        }
    }

    fn is_own(&self, target: SocketAddr) -> bool {
        let address = target.ip().to_canonical();
        let inner = match address {
            IpAddr::V6(address) => embedded_v4(address).map(IpAddr::V4),
            IpAddr::V4(_) => None,
        };
        let same_port = self.own_listeners.iter().filter(|own| own.port() == target.port());
        same_port.map(|own| own.ip().to_canonical()).any(|own| {
            [Some(address), inner].into_iter().flatten().any(|address| {
                // Connecting to 0.0.0.0 or :: reaches this machine.
                address == own
                    || address.is_unspecified()
                    || (own.is_unspecified() && is_this_machine(address))
            })
        })
    }
}

/// Only an address of this machine can be bound; nothing is sent.
fn is_this_machine(address: IpAddr) -> bool {
    address.is_loopback() || UdpSocket::bind((address, 0)).is_ok()
}
