//! W3C trace context across gRPC hops and inside messages.

use std::task::{Context as TaskContext, Poll};

use opentelemetry::{
    Context,
    propagation::{Extractor, Injector, TextMapPropagator},
    trace::TraceContextExt,
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tonic::{Request, Status, metadata::MetadataMap, service::Interceptor};
use tower::{Layer, Service};
use tracing::{Instrument, Span, instrument::Instrumented};
use tracing_opentelemetry::OpenTelemetrySpanExt;

const TRACEPARENT: &str = "traceparent";

struct Carrier(Option<String>);

impl Injector for Carrier {
    fn set(&mut self, key: &str, value: String) {
        if key == TRACEPARENT {
            self.0 = Some(value);
        }
    }
}

impl Extractor for Carrier {
    fn get(&self, key: &str) -> Option<&str> {
        if key == TRACEPARENT { self.0.as_deref() } else { None }
    }
    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

/// The current span's context as a `traceparent` value; empty when nothing is traced.
#[must_use]
pub fn current() -> String {
    of(&Span::current())
}

/// A span's context as a `traceparent` value; empty when it is not traced.
#[must_use]
pub fn of(span: &Span) -> String {
    let mut carrier = Carrier(None);
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.0.unwrap_or_default()
}

/// Makes `span` a child of the context that a message or header carried. Empty or odd values change nothing.
pub fn set_parent(span: &Span, traceparent: &str) {
    let context = parse(traceparent);
    if context.span().span_context().is_valid() {
        // Refused only when the span has started already or is not recorded: then there is nothing to link.
        let _ = span.set_parent(context);
    }
}

fn parse(traceparent: &str) -> Context {
    TraceContextPropagator::new()
        .extract_with_context(&Context::new(), &Carrier(Some(traceparent.to_owned())))
}

/// Adds the current context to every outgoing call.
#[derive(Clone, Copy, Debug)]
pub struct Inject;

impl Interceptor for Inject {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        inject(request.metadata_mut());
        Ok(request)
    }
}

fn inject(metadata: &mut MetadataMap) {
    if let Ok(value) = current().parse() {
        metadata.insert(TRACEPARENT, value);
    }
}

/// Gives every incoming call a span that continues the caller's trace.
#[derive(Clone, Copy, Debug)]
pub struct ExtractLayer;

impl<S> Layer<S> for ExtractLayer {
    type Service = Extract<S>;
    fn layer(&self, inner: S) -> Self::Service {
        Extract { inner }
    }
}

/// See [`ExtractLayer`].
#[derive(Clone, Debug)]
pub struct Extract<S> {
    inner: S,
}

impl<S, B> Service<http::Request<B>> for Extract<S>
where
    S: Service<http::Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Instrumented<S::Future>;

    fn poll_ready(&mut self, cx: &mut TaskContext<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let span = request_span(request.uri().path());
        if let Some(parent) = request.headers().get(TRACEPARENT).and_then(|value| value.to_str().ok()) {
            set_parent(&span, parent);
        }
        self.inner.call(request).instrument(span)
    }
}

fn request_span(path: &str) -> Span {
    // OpenTelemetry's names for rpc spans: "package.Service/Method" without the leading slash.
    let name = path.trim_start_matches('/');
    tracing::info_span!("rpc", otel.name = name, otel.kind = "server", rpc.system = "grpc")
}
