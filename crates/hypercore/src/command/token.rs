//! `hypercore token`: who may call the API over the network. A secret is printed once, alone on stdout, and is nowhere
//! to be had again.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use clap::{Args, Subcommand};
use hypercore_api::{Client, ErrorKind, v1};
use hypercore_model::{Scope, TenantName, Timestamp, TokenName};
use serde::Serialize;

use super::targets::each;
use crate::{
    age,
    context::Context,
    failure::{Failure, Outcome},
    table::Table,
};

const EXAMPLES: &str = "\
Examples:
  hypercore token create --name laptop --scope run
  hypercore token ls
  hypercore token revoke laptop

Whoever has a token reaches the node from elsewhere, when it was started with --grpc-bind-addr:
  export HYPERCORE_API=https://node.example.org:8000 HYPERCORE_TOKEN=hc1....
  hypercore ps";

const CREATE_EXAMPLES: &str = "\
Examples:
  hypercore token create                                   to look: scope read, for 30 days
  hypercore token create --name ci --scope run --ttl 1h
  hypercore token create --scope run --tenant acme         its holder sees one tenant alone

Scopes, each with those before it:
  read    list, inspect, logs, events, stats, images
  run     make, enter, copy, pause and end workloads; pull and remove images; volumes
  admin   tokens, registry logins, mounts of the node's directories, --allow, --cap-add";

const LS_EXAMPLES: &str = "\
Examples:
  hypercore token ls
  hypercore token ls -q                only the ids";

const REVOKE_EXAMPLES: &str = "\
Examples:
  hypercore token revoke ci
  hypercore token revoke $(hypercore token ls -q)";

/// How long a token lasts when nothing is said: nobody remembers those that last for ever.
const TTL_DEFAULT: &str = "30d";

/// Make, list and revoke the tokens of callers from elsewhere
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a token, and print it: this once, and never again
    #[command(after_help = CREATE_EXAMPLES)]
    Create(CreateArgs),
    /// List tokens, without their secrets
    #[command(after_help = LS_EXAMPLES)]
    Ls,
    /// Make tokens worth nothing, at once
    #[command(after_help = REVOKE_EXAMPLES)]
    Revoke {
        /// Id, unique prefix of an id, or name
        #[arg(required = true, value_name = "TOKEN")]
        tokens: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// What to call it
    #[arg(long)]
    name: Option<TokenName>,
    /// What its holder may do: read, run or admin
    #[arg(long, default_value = "read")]
    scope: Vec<Scope>,
    /// Whose workloads alone it is about
    #[arg(long)]
    tenant: Option<TenantName>,
    /// How long it is good, such as 1h or 30d; `never` for no end
    #[arg(long, value_name = "TIME", default_value = TTL_DEFAULT, value_parser = parse_ttl)]
    ttl: Ttl,
}

/// How long a token is good; for ever, if there is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ttl(Option<Duration>);

fn parse_ttl(text: &str) -> Result<Ttl, String> {
    if text == "never" {
        return Ok(Ttl(None));
    }
    match humantime::parse_duration(text) {
        Ok(ttl) if ttl >= Duration::from_secs(1) => Ok(Ttl(Some(ttl))),
        _ => Err("write it with a unit, such as 1h or 30d, or `never`".to_owned()),
    }
}

/// Does it.
pub(super) async fn run(args: TokenArgs, context: &Context) -> Outcome {
    match args.command {
        TokenCommand::Create(args) => create(args, context).await,
        TokenCommand::Ls => list(context).await,
        TokenCommand::Revoke { tokens } => revoke(&tokens, context).await,
    }
}

async fn create(args: CreateArgs, context: &Context) -> Outcome {
    let scopes: BTreeSet<Scope> = args.scope.into_iter().collect();
    let request = v1::TokenCreateRequest {
        name: args.name.map(|name| name.to_string()).unwrap_or_default(),
        scopes: scopes.iter().map(ToString::to_string).collect(),
        tenant: args.tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
        ttl_ms: args.ttl.0.map_or(0, |ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
    };
    let made = context.connect().await?.token_create(request).await?;
    let token = made.token.ok_or_else(|| {
        Failure::new(ErrorKind::Failed, "answer_incomplete", "the agent answered without a token")
    })?;
    if !context.console.is_for_people() {
        return context
            .console
            .structured(&NewTokenView { token: TokenView::new(&token), secret: made.secret });
    }
    context.console.say(&format!("token {}: keep the line below, it is not shown again", token.id));
    context.console.line(&made.secret)?;
    Ok(crate::exit::Exit::Ok)
}

async fn list(context: &Context) -> Outcome {
    let tokens = context.connect().await?.token_list().await?;
    let views: Vec<_> = tokens.iter().map(TokenView::new).collect();
    if context.console.is_quiet() && context.console.is_for_people() {
        for view in &views {
            context.console.line(&view.id)?;
        }
        return Ok(crate::exit::Exit::Ok);
    }
    context.console.data(&views, |views| {
        let mut table = Table::new(&["ID", "NAME", "SCOPES", "TENANT", "CREATED", "EXPIRES"]);
        for (view, token) in views.iter().zip(&tokens) {
            let created = format!("{} ago", age::since(Timestamp::from_unix_ms(token.created_at_ms)));
            let (name, tenant) =
                (view.name.as_deref().unwrap_or(""), view.tenant.as_deref().unwrap_or("all"));
            table.row([&view.id, name, &view.scopes.join(","), tenant, &created, &expiry(token)]);
        }
        table
    })
}

async fn revoke(tokens: &[String], context: &Context) -> Outcome {
    let client = context.connect().await?;
    let revoke_one = async |client: &Client, token: &str| client.token_revoke(token).await;
    each(&context.console, tokens, async |token: &str| revoke_one(&client, token).await).await
}

/// `never`, `in 29 days`, or `expired 2 hours ago`.
fn expiry(token: &v1::Token) -> String {
    let Some(at) = token.expires_at_ms.map(Timestamp::from_unix_ms) else { return "never".to_owned() };
    let now = Timestamp::from_system_time(SystemTime::now());
    if at > now {
        format!("in {}", age::of_duration(at.since(now)))
    } else {
        format!("expired {} ago", age::since(at))
    }
}

/// One token, as `token ls --json` prints it.
#[derive(Debug, Serialize)]
struct TokenView {
    id: String,
    name: Option<String>,
    scopes: Vec<String>,
    tenant: Option<String>,
    created_at: String,
    expires_at: Option<String>,
}

impl TokenView {
    fn new(token: &v1::Token) -> Self {
        let text = |text: &String| (!text.is_empty()).then(|| text.clone());
        Self {
            id: token.id.clone(),
            name: text(&token.name),
            scopes: token.scopes.clone(),
            tenant: text(&token.tenant),
            created_at: Timestamp::from_unix_ms(token.created_at_ms).to_string(),
            expires_at: token.expires_at_ms.map(|at| Timestamp::from_unix_ms(at).to_string()),
        }
    }
}

/// A new token, as `token create --json` prints it. Its secret is shown, and nothing else ever shows it.
#[derive(Serialize)]
struct NewTokenView {
    #[serde(flatten)]
    token: TokenView,
    secret: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_last_as_long_as_is_said() {
        assert_eq!(parse_ttl("never"), Ok(Ttl(None)));
        assert_eq!(parse_ttl(TTL_DEFAULT), Ok(Ttl(Some(Duration::from_secs(30 * 24 * 3600)))));
        for text in ["", "0s", "1ms", "5", "-1h", "forever"] {
            assert!(parse_ttl(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_expiry_is_told_as_people_say_it() {
        let now_ms = Timestamp::from_system_time(SystemTime::now()).unix_ms();
        let token = |expires_at_ms| v1::Token { expires_at_ms, ..Default::default() };
        assert_eq!(expiry(&token(None)), "never");
        assert_eq!(expiry(&token(Some(now_ms + 3 * 24 * 3_600_000 + 60_000))), "in 3 days");
        assert_eq!(expiry(&token(Some(now_ms - 2 * 3_600_000 - 60_000))), "expired 2 hours ago");
    }
}
