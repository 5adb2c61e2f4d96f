//! One trace from the HTTP request to the running task, received over OTLP by a real gRPC server.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use crate::common::{app, cluster, directory, eventually, sleeper};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

/// Span names by trace id.
#[derive(Clone, Debug, Default)]
struct Collector(Arc<Mutex<BTreeMap<Vec<u8>, BTreeSet<String>>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let resources = request.into_inner().resource_spans;
        let spans = resources.into_iter().flat_map(|r| r.scope_spans).flat_map(|scope| scope.spans);
        let mut traces = self.0.lock().unwrap();
        for span in spans {
            traces.entry(span.trace_id).or_default().insert(span.name);
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[test]
fn one_trace_leads_from_the_post_to_the_running_task() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let collector = Collector::default();
    let incoming = runtime.block_on(async { TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap() });
    let address = incoming.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(collector.clone()));
    let serving = runtime.spawn(server.serve_with_incoming(incoming));

    let dir = directory();
    let mut cluster = cluster(dir.path());
    let setting = |name: &str, value: String| (name.to_owned(), value);
    cluster.environment.push(setting("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}")));
    cluster.environment.push(setting("OTEL_BSP_SCHEDULE_DELAY", "100".to_owned()));
    let meshos = cluster.start();
    assert_eq!(meshos.marathon.json("POST", "/v2/apps", &sleeper("traced", 1)).unwrap().status, 201);
    app(&meshos.marathon, "/traced", |app| app["tasksRunning"] == 1);

    let names = eventually("a trace with the request and the running task", || {
        let traces = collector.0.lock().unwrap().clone();
        let whole = |names: &&BTreeSet<String>| {
            names.iter().any(|name| name.starts_with("POST /v2/apps")) && names.contains("task running")
        };
        traces.values().find(whole).cloned().ok_or(traces)
    });
    // The hops in between belong to it: the change, the launch and the status update.
    for hop in ["meshos.apps.v1.AppScheduler/CreateApp", "launch", "launch_task", "forward status update"] {
        assert!(names.contains(hop), "{hop} is missing in {names:?}");
    }
    assert!(meshos.terminate().success());
    serving.abort();
}
