//! The processes that the fake's exec and attach pretend to be.

use hypercore_api::{ApiError, ErrorKind, v1};
use hypercore_model::ExitStatus;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::{Service, Session};

/// What a process is told.
enum In {
    Data(Vec<u8>),
    End,
    Resize(u32, u32),
    Signal(i32),
    Other,
}

/// What a process does.
enum Out {
    Stdout(Vec<u8>),
    Stderr(Vec<u8>),
    Exit(ExitStatus),
    Broken,
}

impl Service {
    pub(super) fn play_exec(
        &self,
        input: Streaming<v1::ExecRequest>,
    ) -> ReceiverStream<Result<v1::ExecResponse, Status>> {
        use v1::{exec_request::Message as Call, exec_response::Message as Answer};
        let service = self.clone();
        let read = move |message: v1::ExecRequest| match message.message {
            Some(Call::Start(start)) => service.other(format!("exec {start:?}")),
            Some(Call::Stdin(bytes)) => In::Data(bytes),
            Some(Call::StdinClose(_)) => In::End,
            Some(Call::Resize(size)) => In::Resize(size.rows, size.columns),
            Some(Call::Signal(signal)) => In::Signal(signal),
            None => In::Other,
        };
        self.play(input, read, |out| {
            let message = match out {
                Out::Stdout(bytes) => Answer::Stdout(bytes),
                Out::Stderr(bytes) => Answer::Stderr(bytes),
                Out::Exit(exit) => Answer::Exit(exit.into()),
                Out::Broken => return Err(broken()),
            };
            Ok(v1::ExecResponse { message: Some(message) })
        })
    }

    pub(super) fn play_attach(
        &self,
        input: Streaming<v1::AttachRequest>,
    ) -> ReceiverStream<Result<v1::AttachResponse, Status>> {
        use v1::{attach_request::Message as Call, attach_response::Message as Answer};
        let service = self.clone();
        let read = move |message: v1::AttachRequest| match message.message {
            Some(Call::Start(start)) => service.other(format!("attach {start:?}")),
            Some(Call::Stdin(bytes)) => In::Data(bytes),
            Some(Call::StdinClose(_)) => In::End,
            Some(Call::Resize(size)) => In::Resize(size.rows, size.columns),
            Some(Call::Signal(signal)) => In::Signal(signal),
            None => In::Other,
        };
        self.play(input, read, |out| {
            let message = match out {
                Out::Stdout(bytes) => Answer::Stdout(bytes),
                Out::Stderr(bytes) => Answer::Stderr(bytes),
                Out::Exit(exit) => Answer::Exit(exit.into()),
                Out::Broken => return Err(broken()),
            };
            Ok(v1::AttachResponse { message: Some(message) })
        })
    }

    fn other(&self, call: String) -> In {
        self.calls.lock().unwrap().push(call);
        In::Other
    }

    fn play<I: Send + 'static, O: Send + 'static>(
        &self,
        mut input: Streaming<I>,
        read: impl Fn(I) -> In + Send + 'static,
        write: fn(Out) -> Result<O, Status>,
    ) -> ReceiverStream<Result<O, Status>> {
        let (answers, stream) = mpsc::channel(64);
        let (told, process_input) = mpsc::channel(64);
        let (process_output, mut done) = mpsc::channel(64);
        let feed = async move {
            while let Ok(Some(message)) = input.message().await {
                if told.send(read(message)).await.is_err() {
                    return;
                }
            }
        };
        let process = self.clone().process(process_input, process_output);
        let play = async move {
            let show = async {
                while let Some(out) = done.recv().await {
                    if answers.send(write(out)).await.is_err() {
                        return;
                    }
                }
            };
            tokio::join!(process, show);
        };
        let _detached = tokio::runtime::Handle::current().spawn(async move {
            tokio::join!(feed, play);
        });
        ReceiverStream::new(stream)
    }

    async fn process(self, mut input: mpsc::Receiver<In>, output: mpsc::Sender<Out>) {
        let say = async |text: &str| drop(output.send(Out::Stdout(text.as_bytes().to_vec())).await);
        match self.script.session {
            Session::Speak => {
                say("out\n").await;
                let _ = output.send(Out::Stderr(b"err\n".to_vec())).await;
                let _ = output.send(Out::Exit(ExitStatus::Code(3))).await;
            }
            Session::Echo => {
                while let Some(told) = input.recv().await {
                    match told {
                        In::Data(bytes) => drop(output.send(Out::Stdout(bytes)).await),
                        In::Resize(rows, columns) => say(&format!("[{rows}x{columns}]")).await,
                        In::Signal(signal) => say(&format!("[signal {signal}]")).await,
                        In::End => break,
                        In::Other => {}
                    }
                }
                let _ = output.send(Out::Exit(ExitStatus::Code(7))).await;
            }
            Session::Sleep => {
                say("ready\n").await;
                let mut signals = self.signals.subscribe();
                let ended = async { *signals.wait_for(|signal| *signal != 0).await.unwrap() };
                let told = async {
                    loop {
                        match input.recv().await {
                            Some(In::Signal(signal)) => return signal,
                            Some(_) => {}
                            None => std::future::pending().await,
                        }
                    }
                };
                let signal = tokio::select! { signal = ended => signal, signal = told => signal };
                let _ = output.send(Out::Exit(ExitStatus::Signal(signal.try_into().unwrap()))).await;
            }
            Session::Ignore => {
                say("ready\n").await;
                output.closed().await;
            }
            Session::Break => {
                say("ready\n").await;
                let _ = output.send(Out::Broken).await;
            }
        }
    }
}

fn broken() -> Status {
    ApiError::new(ErrorKind::Failed, "shim_vanished", "the shim of the workload has vanished").into()
}
