//! Logs to standard error, and traces over OTLP when `OTEL_EXPORTER_OTLP_ENDPOINT` is set.

mod verbosity;

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, SpanExporter};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use tracing_subscriber::{
    Layer,
    fmt::writer::{BoxMakeWriter, MakeWriterExt},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

pub(crate) use verbosity::want as want_verbosity;

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// The file of a service's log in a directory of logs.
#[must_use]
pub fn log_file(dir: &Path, service: &str) -> PathBuf {
    dir.join(match service {
        "meshos" => "meshos.log".to_owned(),
        service => format!("meshos-{service}.log"),
    })
}

/// Why telemetry cannot start.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("traces cannot be exported: check OTEL_EXPORTER_OTLP_ENDPOINT")]
    Exporter(#[from] ExporterBuildError),
    #[error("the log {} cannot be written", path.display())]
    LogFile { path: PathBuf, source: io::Error },
    #[error("logging has been set up already")]
    AlreadySet(#[from] tracing_subscriber::util::TryInitError),
}

/// Flushes what is left when the process ends.
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Sends the spans that wait.
    pub fn shutdown(self) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "traces were not flushed");
        }
    }
}

/// Sets up logging for this process, to standard error, and into a file as well if there is one. The level comes from
/// `RUST_LOG`, by default `info`; [`crate::LoggingLevel`] raises it for a while. Must be called inside a tokio runtime.
///
/// # Errors
/// When the exporter's settings are not valid, or logging was set up before.
pub fn init(
    service: &'static str,
    format: LogFormat,
    log_file: Option<&Path>,
) -> Result<Telemetry, TelemetryError> {
    let filter = verbosity::filter();
    let writer = match log_file {
        Some(path) => BoxMakeWriter::new(io::stderr.and(Arc::new(open_log(path)?))),
        None => BoxMakeWriter::new(io::stderr),
    };
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    let logs = match format {
        LogFormat::Text => layer.with_ansi(false).with_filter(filter).boxed(),
        LogFormat::Json => layer.json().with_filter(filter).boxed(),
    };
    let provider = exporter(service)?;
    let traces = provider.as_ref().map(|provider| {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("meshos"))
            .with_filter(tracing_subscriber::filter::LevelFilter::INFO)
    });
    tracing_subscriber::registry().with(logs).with(traces).try_init()?;
    Ok(Telemetry { provider })
}

/// Appended to: whoever rotates it may copy and cut it off.
fn open_log(path: &Path) -> Result<File, TelemetryError> {
    let failed = |source| TelemetryError::LogFile { path: path.to_owned(), source };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(failed)?;
    }
    File::options().create(true).append(true).open(path).map_err(failed)
}

/// The standard `OTEL_*` variables configure the rest.
fn exporter(service: &'static str) -> Result<Option<SdkTracerProvider>, TelemetryError> {
    if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_none() {
        return Ok(None);
    }
    let exporter = SpanExporter::builder().with_tonic().build()?;
    let resource = match std::env::var("OTEL_SERVICE_NAME") {
        Ok(_) => Resource::builder().build(),
        Err(_) => Resource::builder().with_service_name(service).build(),
    };
    Ok(Some(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build()))
}
