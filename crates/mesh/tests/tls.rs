//! TLS: services with certificates of one authority meet; a stranger does not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path, time::Duration};

use meshos_mesh::{Env, connect, serve, transport};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::time::timeout;
use tonic::service::Routes;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn files(dir: &Path, name: &str, authority: &CertifiedIssuer<'static, KeyPair>) -> transport::TlsFiles {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let path = |ending: &str| dir.join(format!("{name}.{ending}"));
    fs::write(path("ca"), authority.pem()).unwrap();
    fs::write(path("crt"), certificate.pem()).unwrap();
    fs::write(path("key"), key.serialize_pem()).unwrap();
    transport::TlsFiles { ca: path("ca"), certificate: path("crt"), key: path("key") }
}

async fn health(env: &Env, address: &str) -> Result<(), tonic::Status> {
    let mut client = HealthClient::new(connect(env, address));
    let check = client.check(HealthCheckRequest::default());
    timeout(Duration::from_secs(20), check).await.unwrap().map(drop)
}

#[tokio::test]
async fn services_of_one_authority_meet_and_a_stranger_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority();
    let theirs = authority();
    let env = |name: &str, authority| Env::real(transport::tls(&files(dir.path(), name, authority)).unwrap());
    let server = env("server", &ours);
    let listener = server.transport.bind("127.0.0.1:0").await.unwrap();
    let serving = serve(&server, "test", listener, Routes::default()).await;

    health(&env("client", &ours), &serving.address).await.unwrap();
    health(&env("stranger", &theirs), &serving.address).await.unwrap_err();
    let plain = Env::real(transport::tcp());
    health(&plain, &serving.address).await.unwrap_err();
    // The listener has survived them.
    health(&env("client2", &ours), &serving.address).await.unwrap();
    server.tasks.shutdown(Duration::from_secs(5)).await;
}
