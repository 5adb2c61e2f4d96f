//! The HTTPS port.

use std::{fs, path::Path, sync::Arc};

use rustls::{
    ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::{
    client::{Load, exchange},
    scene::{Scene, app, until},
};

/// Takes every certificate: the test looks at it itself.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// Status of a request, and the certificate that was shown.
async fn https(port: u16, sni: &str, host: &str) -> std::io::Result<(u16, Vec<u8>, String)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let name = ServerName::try_from(sni.to_owned()).unwrap();
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let answer = exchange(&mut stream, host, "/", &[("Connection", "close")]).await?;
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    Ok((answer.status, shown, answer.got("x-forwarded-proto").unwrap_or_default().to_owned()))
}

/// Writes a certificate with its key; the certificate.
fn certificate(file: &Path, host: &str) -> Vec<u8> {
    let made = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
    fs::write(file, format!("{}\n{}", made.cert.pem(), made.signing_key.serialize_pem())).unwrap();
    made.cert.der().to_vec()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lb_c46_certificates_are_replaced_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let of_a = certificate(&dir.path().join("a.pem"), "a.test");
    let of_b = certificate(&dir.path().join("b.pem"), "b.test");
    let scene = Scene::with(&["--ssl-certs", dir.path().to_str().unwrap()]).await;
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test,b.test")]);
    scene.put(&web);
    scene.run(&web, &scene.task("one").await);
    scene.lb.served("a.test").await;
    let port = scene.lb.https;
    let (status, shown, proto) = https(port, "a.test", "a.test").await.unwrap();
    assert_eq!((status, shown == of_a, proto.as_str()), (200, true, "https"));
    assert_eq!(https(port, "b.test", "b.test").await.unwrap().1, of_b);
    assert_eq!(https(port, "a.test", "b.test").await.unwrap().0, 200, "the name in the handshake counts");
    assert_eq!(https(port, "c.test", "a.test").await.unwrap().0, 503);
    let reloads = scene.lb.reloads().await;
    let load = Load::start(&scene.env, 3, false, scene.lb.http, "a.test");
    let shows = |host: &'static str, wanted: Vec<u8>| async move {
        until("the certificate", || async {
            let shown = https(port, host, host).await.map_err(|error| error.to_string())?.1;
            if shown == wanted { Ok(()) } else { Err("another one".to_owned()) }
        })
        .await;
    };
    let renewed = certificate(&dir.path().join("a.pem"), "a.test");
    shows("a.test", renewed.clone()).await;
    // A new one, one that goes, one that is broken.
    let of_c = certificate(&dir.path().join("c.pem"), "c.test");
    shows("c.test", of_c).await;
    fs::remove_file(dir.path().join("b.pem")).unwrap();
    shows("b.test", renewed.clone()).await;
    fs::write(dir.path().join("a.pem"), "-----BEGIN CERTIFICATE-----\nnonsense\n").unwrap();
    assert!(scene.lb.problem("a.pem").await.contains("certificate"));
    shows("a.test", renewed).await;
    assert_eq!(scene.lb.status().await.reloads, reloads);
    let failures = load.stop().await;
    assert!(failures.is_empty(), "{failures:?}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_certificate_there_is_one_for_everybody() {
    let scene = Scene::new().await;
    let web = app("/web", &[("HAPROXY_0_VHOST", "a.test"), ("HAPROXY_0_REDIRECT_TO_HTTPS", "true")]);
    scene.put(&web);
    scene.run(&web, &scene.task("one").await);
    until("it is served", || async {
        match https(scene.lb.https, "a.test", "a.test").await {
            Ok((200, ..)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    scene.end().await;
}
