//! One trace from the HTTP request on.

use opentelemetry::trace::TracerProvider;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::layer::SubscriberExt;

use crate::{client::send, scene::Scene};

#[tokio::test]
async fn a_call_carries_on_the_trace_of_its_request() {
    let provider = SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    tracing::subscriber::set_global_default(tracing_subscriber::registry().with(layer)).unwrap();
    let scene = Scene::new().await;
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let headers =
        [("content-type", "application/json"), ("traceparent", parent.as_str()), ("mesos-stream-id", "s")];
    let call = r#"{"type":"REVIVE","framework_id":{"value":"f"}}"#;
    let reply = send(scene.mesos(), "POST /api/v1/scheduler", &headers, call).await;
    assert_eq!(reply.status, 202);
    let carried = scene.allocator.traceparent.lock().unwrap().clone();
    assert!(carried.starts_with(&format!("00-{trace}-")), "{carried}");
    assert_ne!(carried, parent, "the gateway's own span is the parent of what follows");
    scene.stop().await;
}
