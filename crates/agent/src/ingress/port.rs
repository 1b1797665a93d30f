//! Which port of a workload speaks HTTP: what was said, else what is published, else what its image exposes.
//! It refuses to try ports out.

use std::num::NonZeroU16;

use hypercore_model::{PortProtocol, WorkloadSpec};

/// The port that requests for a workload go to; `exposed` is what its image says (`80/tcp`), and asked for last.
pub(super) fn of(spec: &WorkloadSpec, exposed: impl FnOnce() -> Vec<String>) -> Option<NonZeroU16> {
    let published = || {
        let tcp = spec.ports.iter().find(|mapping| mapping.protocol == PortProtocol::Tcp);
        tcp.map(|mapping| mapping.container)
    };
    let of_image = || exposed().iter().filter_map(|port| tcp_port(port)).min();
    spec.route_port.or_else(published).or_else(of_image)
}

/// The port of `80/tcp` or `80` (OCI image specification, `ExposedPorts`).
fn tcp_port(text: &str) -> Option<NonZeroU16> {
    text.strip_suffix("/tcp").unwrap_or(text).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_says_it_counts() {
        let mut spec = WorkloadSpec::of_image("web:1".parse().unwrap());
        let exposed = || ["9000/udp", "8443/tcp", "8080/tcp", "junk"].map(str::to_owned).to_vec();
        assert_eq!(of(&spec, Vec::new), None);
        assert_eq!(of(&spec, exposed), NonZeroU16::new(8080));
        spec.ports = vec!["53/udp".parse().unwrap(), "8000:80".parse().unwrap()];
        assert_eq!(of(&spec, exposed), NonZeroU16::new(80));
        spec.route_port = NonZeroU16::new(3000);
        assert_eq!(of(&spec, exposed), NonZeroU16::new(3000));
    }
}
