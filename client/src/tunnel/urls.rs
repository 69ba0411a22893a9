//! Where visitors find the services, as text.

use std::collections::BTreeMap;

use tunnler_protocol::presence::{Service, ServiceKind};
use tunnler_protocol::{HostName, ServiceName};

/// What the URLs are made of.
#[derive(Debug)]
pub(super) struct Urls {
    pub(super) hosts: Vec<HostName>,
    pub(super) ingress_port: u16,
    /// The first one answers at the bare host.
    pub(super) services: Vec<Service>,
}

impl Urls {
    /// The URLs, first the main one. TCP services have one as soon as their port is agreed.
    pub(super) fn with(&self, ports: &BTreeMap<ServiceName, u16>) -> Vec<String> {
        let of_host = |host| {
            let services = self.services.iter().enumerate();
            services.filter_map(move |(place, service)| match service.kind {
                ServiceKind::Http if place == 0 => Some(self.https(host)),
                ServiceKind::Http => Some(self.https(&format!("{}.{host}", service.name))),
                ServiceKind::Tcp => Some(format!("tcp://{host}:{}", ports.get(&service.name)?)),
                ServiceKind::Udp => None,
            })
        };
        self.hosts.iter().map(HostName::as_str).flat_map(of_host).collect()
    }

    /// Whether every TCP service has its port.
    pub(super) fn is_complete(&self, ports: &BTreeMap<ServiceName, u16>) -> bool {
        let mut tcp = self.services.iter().filter(|service| service.kind == ServiceKind::Tcp);
        tcp.all(|service| ports.contains_key(&service.name))
    }

    fn https(&self, host: &str) -> String {
        match self.ingress_port {
            443 => format!("https://{host}"),
            port => format!("https://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use tunnler_protocol::presence::TlsMode;

    use super::*;

    #[test]
    fn every_service_has_its_url() {
        let service =
            |name: &str, kind| Service { name: name.parse().unwrap(), kind, tls: TlsMode::Pass, port: None };
        let services = vec![
            service("http", ServiceKind::Http),
            service("api", ServiceKind::Http),
            service("ssh", ServiceKind::Tcp),
        ];
        let hosts = vec!["mynode.tun.test".parse().unwrap()];
        let urls = Urls { hosts, ingress_port: 443, services };
        let none = BTreeMap::new();
        assert_eq!(urls.with(&none), ["https://mynode.tun.test", "https://api.mynode.tun.test"]);
        assert!(!urls.is_complete(&none));
        let ports = BTreeMap::from([("ssh".parse().unwrap(), 20_022)]);
        assert_eq!(urls.with(&ports).last().unwrap(), "tcp://mynode.tun.test:20022");
        assert!(urls.is_complete(&ports));
    }
}
