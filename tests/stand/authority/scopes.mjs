// The resources and permissions that can be requested, and the arithmetic of scopes: Microsoft's resources
// with their permissions and `.default`, Google's mail scope, and those of OpenID Connect.

const MAIL_HOSTS = [
  'outlook.office.com',
  'outlook.office365.com',
  'outlook.office365.us',
  'outlook-dod.office365.us',
  'partner.outlook.cn',
];
const GRAPH_HOSTS = [
  'graph.microsoft.com',
  'graph.microsoft.us',
  'dod-graph.microsoft.us',
  'microsoftgraph.chinacloudapi.cn',
];
const MAIL_PERMISSIONS = ['IMAP.AccessAsUser.All', 'POP.AccessAsUser.All', 'SMTP.Send', 'EWS.AccessAsUser.All'];
const GRAPH_PERMISSIONS = ['Mail.ReadWrite', 'Mail.ReadWrite.Shared', 'Mail.Send', 'Mail.Send.Shared', 'User.Read'];
const PERMISSIONS = new Map([
  ...MAIL_HOSTS.map((host) => [`https://${host}`, MAIL_PERMISSIONS]),
  ...GRAPH_HOSTS.map((host) => [`https://${host}`, GRAPH_PERMISSIONS]),
]);
const DEFAULT = '.default';

export const GOOGLE_MAIL = 'https://mail.google.com/';
// Represents `offline_access` inside the server: oidc-provider would drop the real one unless the request
// also has `prompt=consent`, which neither Microsoft nor Google requires.
export const OFFLINE = 'stand.offline';
const OPENID = ['openid', 'profile', 'email'];

// Every scope that oidc-provider must know.
export const ALL_SCOPES = [
  ...OPENID,
  OFFLINE,
  GOOGLE_MAIL,
  ...[...PERMISSIONS].flatMap(([resource, permissions]) => [DEFAULT, ...permissions].map((name) => `${resource}/${name}`)),
];

// The two spellings of Exchange Online are one resource for users' tokens.
function canonical(resource) {
  return resource === 'https://outlook.office365.com' ? 'https://outlook.office.com' : resource;
}

// Returns the resource of a scope; null for those of OpenID Connect, undefined for an unknown one.
function resourceOf(scope) {
  if (OPENID.includes(scope) || scope === OFFLINE || scope === 'offline_access') return null;
  if (scope === GOOGLE_MAIL) return GOOGLE_MAIL;
  const slash = scope.lastIndexOf('/');
  if (slash < 0) return GRAPH_PERMISSIONS.includes(scope) ? 'https://graph.microsoft.com' : undefined;
  const resource = scope.slice(0, slash).replace(/\/$/, '');
  return PERMISSIONS.has(resource) ? canonical(resource) : undefined;
}

export const words = (scope) => (scope ?? '').split(' ').filter(Boolean);

// Returns a user's scopes as the server stores them, or the trouble: `{ scopes }` or `{ trouble }`.
export function understood(scope) {
  const scopes = [];
  for (const word of words(scope)) {
    const resource = resourceOf(word);
    if (resource === undefined) return { trouble: word.includes('/') ? 'invalid_resource' : 'invalid_scope' };
    const name = word.slice(word.lastIndexOf('/') + 1);
    if (resource === null || resource === GOOGLE_MAIL) scopes.push(word === 'offline_access' ? OFFLINE : word);
    else if (name === DEFAULT) scopes.push(...PERMISSIONS.get(resource).map((permission) => `${resource}/${permission}`));
    else if (PERMISSIONS.get(resource).includes(name)) scopes.push(`${resource}/${name}`);
    else return { trouble: 'invalid_scope' };
  }
  return { scopes: [...new Set(scopes)] };
}

// Returns the resources in a list of known scopes.
export function resources(scopes) {
  return [...new Set(scopes.map(resourceOf).filter(Boolean))];
}

// Returns the scope of one access token from all granted scopes: that of `wanted`, or of the first resource.
export function narrow(granted, wanted) {
  const all = words(granted);
  const named = wanted?.filter((scope) => resourceOf(scope)) ?? [];
  const [first] = resources(named.length ? named : all);
  return all
    .filter((scope) => scope !== OFFLINE)
    .filter((scope) => {
      const resource = resourceOf(scope);
      return resource === null || (resource === first && (named.length === 0 || named.includes(scope)));
    })
    .join(' ');
}

// Returns the trouble with an app-only request's scope, or null.
export function appOnlyTrouble(scope) {
  const scopes = words(scope);
  if (scopes.length !== 1 || !scopes[0].endsWith(`/${DEFAULT}`)) return 'invalid_app_scope';
  return PERMISSIONS.has(scopes[0].slice(0, -DEFAULT.length - 1)) ? null : 'invalid_resource';
}

// Returns whether an app-only token opens mailboxes.
export function appOnlyMail(scope) {
  return MAIL_HOSTS.some((host) => scope === `https://${host}/${DEFAULT}`);
}

const BY_SERVICE = { imap: 'IMAP.AccessAsUser.All', pop3: 'POP.AccessAsUser.All', submission: 'SMTP.Send', ews: 'EWS.AccessAsUser.All' };

// Returns whether a user's token is valid for a protocol of Dovecot.
export function delegatedMail(scope, service) {
  return words(scope).some((word) => (word === GOOGLE_MAIL && service !== 'ews')
    || MAIL_HOSTS.some((host) => word === `https://${host}/${BY_SERVICE[service]}`));
}
