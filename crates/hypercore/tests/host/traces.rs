//! What a collector receives: one trace per spawn, with a span for each of its steps. The collector here speaks
//! OTLP/HTTP as far as it is spoken to, and decodes what it gets with OpenTelemetry's own definitions.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::Stdio,
    sync::{Arc, Mutex},
    thread,
};

use hypercore_fixtures::skip_without_root;
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message as _;

use crate::{node::Node, program::until};

/// A collector that lives as long as the test's process.
struct Collector {
    address: String,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let spans: Arc<Mutex<Vec<Span>>> = Arc::default();
        let received = Arc::clone(&spans);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let received = Arc::clone(&received);
                thread::spawn(move || while take(&stream, &received).is_some() {});
            }
        });
        Self { address, spans }
    }

    fn spans_of(&self, workload: &str) -> Vec<Span> {
        let spans = self.spans.lock().unwrap();
        spans.iter().filter(|span| text(&span.attributes, "workload") == Some(workload)).cloned().collect()
    }
}

/// Takes one request. `None` when the connection is over.
fn take(stream: &TcpStream, spans: &Mutex<Vec<Span>>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        head.push(line.trim().to_ascii_lowercase());
    }
    assert!(head[0].starts_with("post /v1/traces "), "{head:?}");
    assert!(head.iter().any(|line| line == "content-type: application/x-protobuf"), "{head:?}");
    let length = head.iter().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    let request = ExportTraceServiceRequest::decode(&*body).unwrap();
    for resource in request.resource_spans {
        let attributes = &resource.resource.as_ref().unwrap().attributes;
        assert_eq!(text(attributes, "service.name"), Some("hypercore"));
        spans.lock().unwrap().extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
    }
    let mut writer = stream;
    writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").ok()
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a str> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()?;
    match value.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}

#[test]
fn each_step_of_a_spawn_is_a_span_in_the_journal_and_at_the_collector() {
    if skip_without_root("each_step_of_a_spawn_is_a_span_in_the_journal_and_at_the_collector") {
        return;
    }
    let mut node = Node::prepare();
    let collector = Collector::listen();
    let mut up = node.up();
    up.args(["--log-format", "json"]).env("HYPERCORE_LOGGING_OTLP_ENDPOINT", &collector.address);
    let log = File::create(node.path("agent.log")).unwrap();
    node.is_run_by(up.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    let is_up = until(|| (node.run(&["ps"]).code == Some(0)).then_some(()));
    assert!(is_up.is_some(), "{}", node.agent_log());
    node.import_busybox();
    let id = node.detach(&["--name", "traced", "busybox", "--", "true"]);
    node.run(&["wait", "traced"]).expect(0);
    node.run(&["rm", "traced"]).expect(0);
    // What is left is sent at the end.
    assert_eq!(node.stop_agent(), Some(0), "{}", node.agent_log());

    let spans = collector.spans_of(&id);
    let spawn = spans.iter().find(|span| span.name == "spawn").unwrap_or_else(|| panic!("{spans:#?}"));
    for step in ["image", "network", "bundle", "sandbox"] {
        let span =
            spans.iter().find(|span| span.name == step).unwrap_or_else(|| panic!("{step}: {spans:#?}"));
        assert_eq!((&span.trace_id, &span.parent_span_id), (&spawn.trace_id, &spawn.span_id), "{step}");
        assert!(spawn.start_time_unix_nano <= span.start_time_unix_nano);
        assert!(span.end_time_unix_nano <= spawn.end_time_unix_nano);
    }
    let lines = node.agent_log();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let running = lines.iter().find(|line| line["fields"]["message"] == "running").unwrap();
    assert_eq!((&running["span"]["name"], &running["span"]["workload"]), (&"spawn".into(), &id.into()));
    node.assert_nothing_left();
}

#[test]
fn a_collector_that_is_gone_costs_a_warning_and_nothing_else() {
    if skip_without_root("a_collector_that_is_gone_costs_a_warning_and_nothing_else") {
        return;
    }
    let mut node = Node::prepare();
    let nobody = format!("http://{}", crate::node::free_address());
    let mut up = node.up();
    up.env("HYPERCORE_LOGGING_OTLP_ENDPOINT", nobody);
    let log = File::create(node.path("agent.log")).unwrap();
    node.is_run_by(up.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    assert!(until(|| (node.run(&["ps"]).code == Some(0)).then_some(())).is_some(), "{}", node.agent_log());
    node.import_busybox();
    node.run(&["run", "--rm", "busybox", "--", "true"]).expect(0);
    assert_eq!(node.stop_agent(), Some(0), "{}", node.agent_log());
    let log = node.agent_log();
    assert_eq!(log.matches("traces can't be sent").count(), 1, "{log}");
    node.assert_nothing_left();
}
