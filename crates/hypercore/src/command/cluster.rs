//! `hypercore cluster`: the spellings of the first Hypercore. Without a subcommand it is `up`; the others are `run -d`,
//! `stop`, `ps`, `logs`, `attach` and `node ls --metrics` under their old names, with the same implementation.
//! It refuses flags that only several nodes give a meaning: one that did nothing would promise what isn't there.

mod spawn;

use clap::{Args, Subcommand};
use hypercore_api::ErrorKind;

use super::{attach, end, logs, node, ps, up};
use crate::{
    cli::GlobalArgs,
    console::Console,
    context::Context,
    failure::{Failure, Outcome},
};

const EXAMPLES: &str = "\
Examples:
  sudo hypercore cluster                                   the same as `hypercore up`
  hypercore cluster spawn --image-ref nginx --cpu 1 --mem 512 --ports 8080:80
  hypercore cluster list";

const STOP_EXAMPLES: &str = "\
Examples:
  hypercore cluster stop --id web
  hypercore cluster stop web db";

const LOGS_EXAMPLES: &str = "\
Examples:
  hypercore cluster logs --id web
  hypercore cluster logs --id web -f";

const ATTACH_EXAMPLES: &str = "\
Examples:
  hypercore cluster attach --id web";

const METRICS_EXAMPLES: &str = "\
Examples:
  hypercore cluster metrics
  hypercore cluster metrics --json | jq '.[0].used'";

/// Start this machine's node, or use it by its first names
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct ClusterArgs {
    #[command(flatten)]
    up: up::UpArgs,
    #[command(flatten)]
    several: SeveralArgs,
    #[command(subcommand)]
    command: Option<ClusterCommand>,
}

/// What only several nodes give a meaning.
#[derive(Debug, Args)]
#[command(next_help_heading = "Several nodes (not in this release)", after_help = EXAMPLES)]
struct SeveralArgs {
    /// Join the cluster of the node at this address
    #[arg(value_name = "JOIN-ADDR")]
    join_address: Option<String>,
    /// Show this token to the node that is joined
    #[arg(long, value_name = "TOKEN")]
    join_token: Option<String>,
    /// Where other nodes reach this one
    #[arg(long, visible_alias = "bind-addr", value_name = "IP:PORT")]
    cluster_bind_addr: Option<String>,
    /// Start workloads of a failed node on others
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    respawn_on_node_failure: Option<bool>,
    /// Where this node's beacon is
    #[arg(long, value_name = "URL")]
    beacon_endpoint: Option<String>,
    /// What this node asks for a GiB
    #[arg(long, value_name = "PRICE")]
    beacon_price: Option<f64>,
}

#[derive(Debug, Subcommand)]
enum ClusterCommand {
    Spawn(spawn::SpawnArgs),
    Stop(StopArgs),
    #[command(visible_alias = "ls")]
    List(ps::PsArgs),
    Logs(LogsArgs),
    Attach(AttachArgs),
    Metrics(MetricsArgs),
}

/// Stop workloads: `hypercore stop`
#[derive(Debug, Args)]
#[command(after_help = STOP_EXAMPLES)]
struct StopArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Seconds they get to end by themselves [default: 10]
    #[arg(short, long, value_name = "SECONDS")]
    timeout: Option<u32>,
}

/// Show what workloads wrote: `hypercore logs`
#[derive(Debug, Args)]
#[command(after_help = LOGS_EXAMPLES)]
struct LogsArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Go on as it writes, until it ends
    #[arg(short, long)]
    follow: bool,
}

/// Join a workload's input and output: `hypercore attach`
#[derive(Debug, Args)]
#[command(after_help = ATTACH_EXAMPLES)]
struct AttachArgs {
    /// Id, unique prefix of an id, or name
    #[arg(long, value_name = "WORKLOAD")]
    id: String,
    /// Only watch: give it neither our standard input nor our signals
    #[arg(long)]
    no_stdin: bool,
}

/// Show the nodes and what they use: `hypercore node ls --metrics`
#[derive(Debug, Args)]
#[command(after_help = METRICS_EXAMPLES)]
struct MetricsArgs {}

/// Which workloads are meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct TargetArgs {
    /// Id, unique prefix of an id, or name
    #[arg(long = "id", value_name = "WORKLOAD")]
    ids: Vec<String>,
    /// The same without the flag
    #[arg(value_name = "WORKLOAD")]
    workloads: Vec<String>,
}

impl TargetArgs {
    fn all(self) -> Vec<String> {
        [self.ids, self.workloads].concat()
    }
}

/// Does what was asked.
pub(super) fn run(args: ClusterArgs, global: &GlobalArgs, console: Console) -> Outcome {
    let Some(command) = args.command else {
        args.several.refuse()?;
        return up::run(args.up, global, console);
    };
    let context = Context::load(global, console)?;
    super::on_runtime(ask(command, &context))
}

async fn ask(command: ClusterCommand, context: &Context) -> Outcome {
    match command {
        ClusterCommand::Spawn(args) => spawn::run(args, context).await,
        ClusterCommand::Stop(args) => {
            end::stop(end::StopArgs::of(args.target.all(), args.timeout), context).await
        }
        ClusterCommand::List(args) => ps::run(&args, context).await,
        ClusterCommand::Logs(args) => {
            logs::run(logs::LogsArgs::of(args.target.all(), args.follow), context).await
        }
        ClusterCommand::Attach(args) => {
            attach::run(attach::AttachArgs::of(args.id, args.no_stdin), context).await
        }
        ClusterCommand::Metrics(_) => node::ls(&node::LsArgs { metrics: true }, context).await,
    }
}

impl SeveralArgs {
    fn refuse(&self) -> Result<(), Failure> {
        let given = [
            ("JOIN-ADDR", self.join_address.is_some()),
            ("--join-token", self.join_token.is_some()),
            ("--cluster-bind-addr", self.cluster_bind_addr.is_some()),
            ("--respawn-on-node-failure", self.respawn_on_node_failure.is_some()),
            ("--beacon-endpoint", self.beacon_endpoint.is_some()),
            ("--beacon-price", self.beacon_price.is_some()),
        ];
        let given: Vec<_> =
            given.into_iter().filter(|(_, is_given)| *is_given).map(|(name, _)| name).collect();
        if given.is_empty() {
            return Ok(());
        }
        let verb = if given.len() == 1 { "needs" } else { "need" };
        let message =
            format!("{} {verb} several nodes, which this release does not join yet", given.join(", "));
        let hint = "leave them out: a node alone needs none of them";
        Err(Failure::new(ErrorKind::Usage, "single_node", message).with_hint(hint))
    }
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches as _;

    use super::*;
    use crate::cli::{Cli, Command};

    fn parse(words: &[&str]) -> ClusterArgs {
        let matches = crate::cli::definition().get_matches_from([&["hypercore", "cluster"], words].concat());
        let Command::Cluster(args) = Cli::from_arg_matches(&matches).unwrap().command else {
            panic!("{words:?}")
        };
        *args
    }

    #[test]
    fn what_only_several_nodes_mean_is_refused_by_name() {
        assert!(parse(&[]).several.refuse().is_ok());
        for words in [
            &["10.0.0.1:7946"][..],
            &["--join-token", "x"],
            &["--bind-addr", "[::]:7946"],
            &["--respawn-on-node-failure"],
            &["--respawn-on-node-failure=false"],
            &["--beacon-price", "0.01"],
        ] {
            assert_eq!(parse(words).several.refuse().unwrap_err().exit.code(), 2, "{words:?}");
        }
        let both =
            parse(&["--join-token", "x", "--beacon-endpoint", "http://b"]).several.refuse().unwrap_err();
        assert!(both.error.message.starts_with("--join-token, --beacon-endpoint need"), "{both:?}");
    }

    #[test]
    fn ids_come_with_their_flag_or_without() {
        let Some(ClusterCommand::Stop(args)) = parse(&["stop", "--id", "a", "b"]).command else { panic!() };
        assert_eq!(args.target.all(), ["a", "b"]);
    }
}
