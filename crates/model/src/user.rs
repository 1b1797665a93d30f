//! Who a process runs as: `name|uid[:group|gid]`, looked up in the text of the image's own `/etc/passwd` and
//! `/etc/group` with docker's rules (`moby/sys/user`, `GetExecUser`).
//! It refuses to read files: where the texts come from, and that they lie inside the rootfs, is the caller's question.

/// Highest user or group id that can be asked for by number, as in docker.
const ID_MAX: u32 = i32::MAX as u32;

/// Why a user can't be looked up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// No such name in `/etc/passwd`.
    #[error("the image has no user `{0}` in its /etc/passwd")]
    UnknownUser(String),
    /// No such name in `/etc/group`.
    #[error("the image has no group `{0}` in its /etc/group")]
    UnknownGroup(String),
    /// A number that is no id.
    #[error("the id {0} is out of range: at most {ID_MAX} is allowed")]
    IdRange(String),
}

/// Numeric identity and home of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Supplementary groups, without the primary one.
    pub supplementary_gids: Vec<u32>,
    /// Home directory; `/` for users that `/etc/passwd` doesn't know.
    pub home: String,
}

/// One line of `/etc/passwd`.
struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// One line of `/etc/group`.
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl User {
    /// Looks `request` up. An empty user part means uid 0; a number that no line knows is taken as it is, with gid 0.
    /// Supplementary groups are those that list the user, unless a group was asked for: then that one alone counts.
    /// Malformed lines are skipped.
    ///
    /// # Errors
    /// A name that no line knows, or a number beyond 2^31 - 1.
    pub fn lookup(request: &str, passwd: &str, group: &str) -> Result<Self, UserError> {
        let (user_text, group_text) = request.split_once(':').unwrap_or((request, ""));
        let account = find_account(user_text, passwd)?;
        let mut user = Self {
            uid: account.as_ref().map_or(0, |account| account.uid),
            gid: account.as_ref().map_or(0, |account| account.gid),
            supplementary_gids: Vec::new(),
            home: account.as_ref().map_or("/", |account| account.home).to_owned(),
        };
        if user.home.is_empty() {
            "/".clone_into(&mut user.home);
        }
        let name = account.map_or("", |account| account.name);
        if !group_text.is_empty() {
            user.gid = find_gid(group_text, group)?;
        } else if !name.is_empty() {
            user.supplementary_gids = groups(group)
                .filter(|line| line.gid != user.gid && line.members.split(',').any(|member| member == name))
                .map(|line| line.gid)
                .collect();
        }
        Ok(user)
    }
}

/// The account asked for; `None` when nothing was asked for and root has no line.
fn find_account<'a>(text: &str, passwd: &'a str) -> Result<Option<Account<'a>>, UserError> {
    let uid = if text.is_empty() { Some(0) } else { parse_id(text)? };
    let known = accounts(passwd).find(|line| line.name == text || Some(line.uid) == uid);
    match (known, uid) {
        (Some(account), _) => Ok(Some(account)),
        (None, Some(uid)) => Ok(Some(Account { name: "", uid, gid: 0, home: "/" })),
        (None, None) => Err(UserError::UnknownUser(text.to_owned())),
    }
}

fn find_gid(text: &str, group: &str) -> Result<u32, UserError> {
    let gid = parse_id(text)?;
    let known = groups(group).find(|line| line.name == text || Some(line.gid) == gid);
    known.map(|line| line.gid).or(gid).ok_or_else(|| UserError::UnknownGroup(text.to_owned()))
}

/// The number that `text` is; `None` when it is a name.
fn parse_id(text: &str) -> Result<Option<u32>, UserError> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(id) if id <= ID_MAX => Ok(Some(id)),
        _ => Err(UserError::IdRange(text.to_owned())),
    }
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        Some(Account { name, uid, gid, home: fields.nth(1).unwrap_or("") })
    })
}

fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    group.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty() && !name.starts_with('#'))?;
        let gid = fields.nth(1)?.parse().ok()?;
        Some(Group { name, gid, members: fields.next().unwrap_or("") })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n#old:x:7:7::/:\nbroken:x\n\
        web:x:101:102:the web:/srv/web:/bin/sh\n1000:x:55:56::/odd:/bin/sh\nhomeless:x:60:60::\n";
    const GROUP: &str =
        "root:x:0:root\nweb:x:102:web\nlogs:x:103:me,web\ncerts:x:104:web\nnames:x:105:webby\nbad:x:z:web\n";

    fn user(uid: u32, gid: u32, supplementary_gids: &[u32], home: &str) -> User {
        User { uid, gid, supplementary_gids: supplementary_gids.to_vec(), home: home.into() }
    }

    #[test]
    fn users_are_found_as_docker_finds_them() {
        for (request, expected) in [
            ("", user(0, 0, &[], "/root")),
            ("root", user(0, 0, &[], "/root")),
            ("web", user(101, 102, &[103, 104], "/srv/web")),
            ("101", user(101, 102, &[103, 104], "/srv/web")),
            ("web:logs", user(101, 103, &[], "/srv/web")),
            ("web:0", user(101, 0, &[], "/srv/web")),
            ("web:", user(101, 102, &[103, 104], "/srv/web")),
            (":logs", user(0, 103, &[], "/root")),
            ("4242", user(4242, 0, &[], "/")),
            ("4242:4343", user(4242, 4343, &[], "/")),
            ("1000", user(55, 56, &[], "/odd")),
            ("homeless", user(60, 60, &[], "/")),
        ] {
            assert_eq!(User::lookup(request, PASSWD, GROUP), Ok(expected), "{request}");
        }
    }

    #[test]
    fn what_is_unknown_or_out_of_range_is_refused() {
        for (request, error) in [
            ("nobody", UserError::UnknownUser("nobody".into())),
            ("#old", UserError::UnknownUser("#old".into())),
            ("broken", UserError::UnknownUser("broken".into())),
            ("-1", UserError::UnknownUser("-1".into())),
            ("web:wheel", UserError::UnknownGroup("wheel".into())),
            ("2147483648", UserError::IdRange("2147483648".into())),
            ("web:99999999999", UserError::IdRange("99999999999".into())),
        ] {
            assert_eq!(User::lookup(request, PASSWD, GROUP), Err(error), "{request}");
        }
    }

    #[test]
    fn an_image_without_accounts_still_runs_numbers() {
        assert_eq!(User::lookup("", "", ""), Ok(user(0, 0, &[], "/")));
        assert_eq!(User::lookup("5:6", "", ""), Ok(user(5, 6, &[], "/")));
        assert!(User::lookup("root", "", "").is_err());
    }
}
