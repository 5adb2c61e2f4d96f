//! Tasks that serve HTTP with a status that the test chooses.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;

const PROGRAM: &str = "\
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = open(sys.argv[2]).read().strip()
        self.send_response(int(text))
        self.send_header('Content-Type', 'text/plain')
        self.end_headers()
        self.wfile.write(b'status ' + text.encode())
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
";

/// Where the tasks look their status up.
pub(crate) struct Status {
    dir: TempDir,
}

impl Status {
    pub(crate) fn new(status: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("server.py"), PROGRAM).unwrap();
        let new = Self { dir };
        new.answer(status);
        new
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("status")
    }

    /// From now on.
    pub(crate) fn answer(&self, status: u16) {
        let next = self.dir.path().join("next");
        std::fs::write(&next, status.to_string()).unwrap();
        std::fs::rename(next, self.file()).unwrap();
    }

    /// The command of a task; `mark` makes commands differ.
    pub(crate) fn cmd(&self, mark: &str) -> Value {
        let program = self.dir.path().join("server.py");
        json!(format!("exec python3 {} $PORT0 {} {mark}", program.display(), self.file().display()))
    }
}
