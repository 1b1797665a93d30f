//! What a command has at hand: the console, the configuration, and the way to the agent.

use std::{env, path::PathBuf};

use hypercore_api::{Client, Endpoint, client::Proof};

use crate::{
    cli::GlobalArgs,
    config::{self, Loaded},
    console::Console,
    failure::Failure,
};

/// Name of the agent's socket within the runtime directory.
const API_SOCKET: &str = "api.sock";

/// What a command has at hand.
#[derive(Debug)]
pub(crate) struct Context {
    pub(crate) console: Console,
    pub(crate) loaded: Loaded,
    api: Option<Endpoint>,
    token: Option<String>,
    authorities: Option<PathBuf>,
}

impl Context {
    /// Loads the configuration that the global flags name.
    ///
    /// # Errors
    /// All mistakes of the file and the environment.
    pub(crate) fn load(global: &GlobalArgs, console: Console) -> Result<Self, Failure> {
        let loaded = config::load(global.config.as_deref(), environment())?;
        Ok(Self::new(global, console, loaded))
    }

    /// The same with the defaults, for commands that must work although the file is broken.
    pub(crate) fn without_file(global: &GlobalArgs, console: Console) -> Self {
        Self::new(global, console, config::load_defaults())
    }

    fn new(global: &GlobalArgs, console: Console, loaded: Loaded) -> Self {
        Self {
            console,
            loaded,
            api: global.api.clone(),
            token: global.api_token.clone(),
            authorities: global.api_ca.clone(),
        }
    }

    /// Where the agent is: as the flag says, else in the runtime directory of the configuration.
    pub(crate) fn endpoint(&self) -> Endpoint {
        let socket = || self.loaded.config.node.runtime_directory.as_path().join(API_SOCKET);
        self.api.clone().unwrap_or_else(|| Endpoint::Unix(socket()))
    }

    /// Connects to the agent.
    ///
    /// # Errors
    /// No agent answers, or it may not be talked to.
    pub(crate) async fn connect(&self) -> Result<Client, Failure> {
        let endpoint = self.endpoint();
        match self.config_path() {
            Some(path) => self.console.detail(&format!("configured by {}", path.display())),
            None => self.console.detail("configured by the defaults"),
        }
        self.console.detail(&format!("asking the agent at {endpoint}"));
        let proof = Proof { token: self.token.as_deref(), authorities: self.authorities.as_deref() };
        Ok(Client::connect(&endpoint, proof).await?)
    }

    /// The configuration file in use, if there is one.
    pub(crate) const fn config_path(&self) -> Option<&PathBuf> {
        self.loaded.path.as_ref()
    }
}

/// The environment's variables that are text. A variable of ours that isn't UTF-8 can't be a valid setting, and is
/// shown with its bad bytes replaced when it is refused.
pub(crate) fn environment() -> impl Iterator<Item = (String, String)> {
    env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}
