//! The flags of `up` about the ingress, and what the agent is told of it. They refuse HTTPS without a certificate.

use std::net::SocketAddr;

use clap::Args;
use hypercore_agent::{IngressSettings, IngressTls};
use hypercore_api::ErrorKind;

use crate::{
    config::{Config, Domain, IngressTlsChoice, OrEmpty, from_text},
    failure::Failure,
};

/// Settings of the ingress.
#[derive(Debug, Args)]
pub(super) struct IngressArgs {
    /// Workloads are served at NAME.DOMAIN; `localhost` when not given [cluster.base_url]
    #[arg(long, visible_alias = "base-url", value_name = "DOMAIN", value_parser = from_text::<Domain>)]
    cluster_base_url: Option<Domain>,
    /// Where workloads are served to everybody, such as 0.0.0.0:80 [ingress.http]
    #[arg(long, value_name = "IP:PORT", value_parser = from_text::<SocketAddr>)]
    ingress_http: Option<SocketAddr>,
    /// Where they are served to everybody with TLS, such as 0.0.0.0:443 [ingress.https]
    #[arg(long, value_name = "IP:PORT", value_parser = from_text::<SocketAddr>)]
    ingress_https: Option<SocketAddr>,
    /// Where the certificates come from [ingress.tls]
    #[arg(long, value_name = "off|files|development|acme", value_parser = from_text::<IngressTlsChoice>)]
    ingress_tls: Option<IngressTlsChoice>,
}

impl IngressArgs {
    /// Puts the flags over the configuration.
    pub(super) fn replace(self, config: &mut Config) {
        if let Some(domain) = self.cluster_base_url {
            config.cluster.base_url = OrEmpty(Some(domain));
        }
        if let Some(address) = self.ingress_http {
            config.ingress.http = OrEmpty(Some(address));
        }
        if let Some(address) = self.ingress_https {
            config.ingress.https = OrEmpty(Some(address));
        }
        if let Some(choice) = self.ingress_tls {
            config.ingress.tls = choice;
        }
    }
}

/// What the agent is told.
pub(super) fn settings(config: &Config) -> Result<IngressSettings, Failure> {
    let table = &config.ingress;
    let tls = match table.tls {
        IngressTlsChoice::Off if table.https.0.is_some() => {
            let failure = Failure::new(ErrorKind::Usage, "no_certificates", "HTTPS needs certificates");
            return Err(failure
                .with_hint("give --ingress-tls files, development or acme, or leave --ingress-https out"));
        }
        IngressTlsChoice::Off => IngressTls::Off,
        IngressTlsChoice::Development => IngressTls::Development,
        IngressTlsChoice::Acme => IngressTls::Acme {
            directory_url: table.acme_directory.as_str().to_owned(),
            email: Some(table.acme_email.clone()).filter(|email| !email.is_empty()),
        },
        IngressTlsChoice::Files => {
            let (Some(certificates), Some(key)) = (&config.cluster.tls_cert.0, &config.cluster.tls_key.0)
            else {
                let what = "certificates from files need --cluster-tls-cert and --cluster-tls-key";
                return Err(Failure::new(ErrorKind::Usage, "no_certificates", what));
            };
            let [certificates, key] = [certificates, key].map(|path| path.as_path().to_owned());
            IngressTls::Files { certificates, key }
        }
    };
    let domain = config.cluster.base_url.0.clone().unwrap_or_else(Domain::localhost);
    Ok(IngressSettings {
        base_domain: domain.into_name(),
        http: table.http.0,
        https: table.https.0,
        tls,
        drain: table.drain.duration(),
        access_log: table.access_log,
    })
}
