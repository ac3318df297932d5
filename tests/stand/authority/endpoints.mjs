// The endpoints as clients see them, in three flavours: Microsoft's paths, Google's, and those of the
// discovery document. Each request is recorded, may fail on command, is checked for what the respective
// provider refuses, and passed to oidc-provider; the response is converted to that provider's form.

import { lose, play, take } from './failing.mjs';
import { redirected, refuse, troubleOf } from './errors.mjs';
import { OFFLINE, appOnlyMail, appOnlyTrouble, delegatedMail, resources, understood, words } from './scopes.mjs';
import { applications, config, keepSecrets, lookUp, serviceAccounts, state, user } from './state.mjs';

const MICROSOFT_PATH = /^\/(?<tenant>[^/]+)\/oauth2(?<v2>\/v2\.0)?\/(?<endpoint>authorize|token|devicecode)$/;
const MICROSOFT_DISCOVERY = /^\/(?<tenant>[^/]+)\/v2\.0\/\.well-known\/openid-configuration$/;
const PATHS = {
  '/o/oauth2/v2/auth': ['google', 'authorize'],
  '/google/token': ['google', 'token'],
  '/google/device': ['google', 'devicecode'],
  '/auth': ['standard', 'authorize'],
  '/token': ['standard', 'token'],
  '/device/auth': ['standard', 'devicecode'],
};
const ROUTES = { authorize: '/auth', token: '/token', devicecode: '/device/auth' };
const DISCOVERY = '/.well-known/openid-configuration';
export const INTROSPECTION = '/token/introspection';

const DEVICE_CODE = 'urn:ietf:params:oauth:grant-type:device_code';
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';

// The behaviours of a user that make a renewal of the user's tokens fail.
const REFUSED_RENEWAL = { mfa: 'mfa', disabled: 'disabled', no_consent: 'consent' };

// How many shared mailboxes a user can have; each is a passdb of Dovecot.
const SHARED = 3;
// No login can be this: Dovecot refuses the character.
const NOBODY = '*';

function placeOf(path) {
  const match = MICROSOFT_PATH.exec(path);
  if (match) return { flavour: 'microsoft', ...match.groups, v1: !match.groups.v2 };
  const [flavour, endpoint] = PATHS[path] ?? [];
  return flavour && { flavour, endpoint, tenant: '', v1: false };
}

async function readForm(req) {
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  return Object.fromEntries(new URLSearchParams(Buffer.concat(chunks).toString('utf8')));
}

export function jwtPart(jwt, index) {
  try {
    return JSON.parse(Buffer.from(jwt.split('.')[index], 'base64url').toString('utf8'));
  } catch {
    return {};
  }
}

function basicCredentials(ctx) {
  const [scheme, value] = ctx.get('authorization').split(' ');
  if (scheme.toLowerCase() !== 'basic') return null;
  const [id, secret] = Buffer.from(value ?? '', 'base64').toString('utf8').split(':')
    .map((part) => decodeURIComponent(part.replace(/\+/g, '%20')));
  return { id, secret };
}

// ---- checks that come before the library's ----

function tenantTrouble(place, application, grant) {
  if (place.flavour !== 'microsoft') return null;
  if (config.unknown_tenants.includes(place.tenant)) return 'unknown_tenant';
  const common = ['common', 'organizations', 'consumers'].includes(place.tenant);
  if (!common) return null;
  if (application?.singleTenant) return 'single_tenant';
  const barred = grant === 'client_credentials' || (grant === 'password' && place.tenant !== 'organizations');
  return barred ? 'not_on_common' : null;
}

function credentialTrouble(clientId, form, basic) {
  const application = applications.get(clientId);
  if (!application) return 'unknown_client';
  const secret = form.client_secret ?? basic?.secret;
  if (application.kind === 'public') return secret || form.client_assertion ? 'public_with_secret' : null;
  if (!secret && !form.client_assertion) return 'missing_secret';
  if (secret && application.expired.includes(secret)) return 'expired_secret';
  if (form.client_assertion) {
    if (application.kind !== 'certificate') return 'bad_assertion';
    const { exp, iat, nbf } = jwtPart(form.client_assertion, 1);
    const now = Date.now() / 1000;
    if (exp <= now || (nbf ?? iat) > now + 1) return 'assertion_time';
  } else if (application.kind === 'certificate') {
    return 'invalid_client';
  }
  return null;
}

// Returns the stored code or refresh token that this request uses, or undefined.
function sourceOf(form) {
  return lookUp('AuthorizationCode', form.code) ?? lookUp('RefreshToken', form.refresh_token)
    ?? lookUp('DeviceCode', form.device_code);
}

// Checks the scope of a user's token and keeps it in `ctx.state.wanted`.
function scopeTrouble(ctx, scope, source) {
  const { scopes, trouble } = understood(scope);
  if (trouble) return trouble;
  const named = resources(scopes);
  if (named.length > 1) return 'two_resources';
  ctx.state.wanted = scopes;
  if (!source?.scope || named.length === 0) return null;
  const granted = new Set(words(source.scope));
  const missing = scopes.filter((word) => resources([word]).length && !granted.has(word));
  // `.default` means what was granted for the resource, not all its permissions.
  const whole = words(scope).some((word) => word.endsWith('/.default'));
  ctx.state.wanted = whole ? scopes.filter((word) => granted.has(word)) : scopes;
  const short = whole ? resources(ctx.state.wanted).length === 0 : missing.length > 0;
  return short ? 'consent' : null;
}

// ---- the token endpoint ----

function beforeToken(ctx, place, form, basic, clientId) {
  if (form.grant_type === JWT_BEARER) return serviceAccounts.has(clientId) ? null : 'unknown';
  const trouble = tenantTrouble(place, applications.get(clientId), form.grant_type)
    ?? credentialTrouble(clientId, form, basic);
  if (trouble) return trouble;
  // v1 names the resource in a separate field; oidc-provider gives `resource` another meaning.
  const scope = form.scope ?? (place.v1 && form.resource ? `${form.resource.replace(/\/$/, '')}/.default` : undefined);
  if (form.grant_type === 'client_credentials') {
    ctx.state.scope = scope;
    return appOnlyTrouble(scope);
  }
  const source = sourceOf(form);
  if (form.refresh_token && source) {
    const refusal = REFUSED_RENEWAL[user(source.accountId).behaviour];
    if (refusal) return refusal;
  }
  return scopeTrouble(ctx, scope, source);
}

// The fields passed to oidc-provider; those that it would misread are in `ctx.state`.
function fieldsFor(ctx, form, clientId) {
  const { scope, resource, ...fields } = form;
  if (ctx.state.scope) fields.scope = ctx.state.scope;
  if (form.grant_type === JWT_BEARER) fields.client_id = clientId;
  return fields;
}

function afterToken({ body, state: found }, place, form) {
  keepSecrets(body.access_token, body.refresh_token, body.id_token);
  if (body.refresh_token) state.issued.add(body.refresh_token);
  if (found.narrowed !== undefined) body.scope = found.narrowed;
  // Google's refresh tokens remain valid, and it does not return them again.
  if (place.flavour === 'google' && form.grant_type === 'refresh_token') delete body.refresh_token;
  if (place.v1) body.expires_in = String(body.expires_in);
}

async function token(ctx, next, place) {
  const { path } = ctx;
  const form = await readForm(ctx.req);
  const basic = basicCredentials(ctx);
  const record = {
    time_ms: Date.now(),
    path,
    tenant: place.tenant,
    form,
    grant_type: form.grant_type ?? '',
    basic: basic !== null,
    status: null,
  };
  state.requests.token.push(record);
  keepSecrets(form.client_secret, form.client_assertion, form.assertion, form.password, form.code, form.code_verifier, form.refresh_token, form.device_code, basic?.secret);
  const clientId = form.client_id ?? basic?.id
    ?? jwtPart(form.client_assertion ?? '', 1).sub ?? jwtPart(form.assertion ?? '', 1).iss;
  const failure = take('token', { client: clientId, tenant: place.tenant, grant: form.grant_type });
  const said = [ctx.get('authorization'), basic?.secret, ...Object.values(form)].filter(Boolean);
  if (await play(failure, ctx, said)) {
    record.status = ctx.respond === false ? null : ctx.status;
    return;
  }

  ctx.state.tokenUrl = `${config.origin}${path}`;
  let trouble = beforeToken(ctx, place, form, basic, clientId);
  if (!trouble) {
    ctx.path = ROUTES.token;
    ctx.req.body = fieldsFor(ctx, form, clientId);
    await next();
    if (ctx.status >= 400) trouble = tokenTrouble(ctx, form);
  }
  if (trouble) refuse(ctx, place.flavour, trouble);
  else afterToken(ctx, place, form);
  Object.assign(record, {
    status: ctx.status,
    access_token: trouble ? null : ctx.body.access_token,
    refresh_token: trouble ? null : ctx.body.refresh_token,
  });
  if (lose(failure, ctx)) record.status = null;
}

function tokenTrouble(ctx, form) {
  if (ctx.state.trouble) return ctx.state.trouble;
  const trouble = troubleOf(ctx.body?.error, ctx.state.detail);
  if (trouble === 'invalid_client' && form.client_assertion) return 'bad_assertion';
  if (trouble === 'invalid_grant' && state.issued.has(form.refresh_token)) return 'revoked';
  if (trouble === 'invalid_grant' && state.issued.has(form.code)) return 'code_used';
  return trouble;
}

// ---- the device endpoint ----

async function devicecode(ctx, next, place) {
  const { path } = ctx;
  const form = await readForm(ctx.req);
  state.requests.device.push({ time_ms: Date.now(), path, tenant: place.tenant, form });
  const basic = basicCredentials(ctx);
  keepSecrets(form.client_secret, basic?.secret);
  const clientId = form.client_id ?? basic?.id;
  const failure = take('device', { client: clientId, tenant: place.tenant });
  if (await play(failure, ctx)) return;

  const { scopes, trouble: wrong } = understood(form.scope);
  let trouble = tenantTrouble(place, applications.get(clientId), DEVICE_CODE)
    ?? credentialTrouble(clientId, form, basic) ?? wrong ?? null;
  if (!trouble) {
    if (place.flavour === 'google') scopes.push(OFFLINE);
    ctx.path = ROUTES.devicecode;
    ctx.req.body = { ...form, scope: scopes.join(' '), stand_flavour: place.flavour };
    await next();
    if (ctx.status >= 400) trouble = ctx.state.trouble ?? troubleOf(ctx.body?.error, ctx.state.detail);
  }
  if (trouble) refuse(ctx, place.flavour, trouble);
  else deviceAnswer(ctx, place);
  lose(failure, ctx);
}

function deviceAnswer(ctx, place) {
  const { verification_uri: uri, verification_uri_complete: complete, ...body } = ctx.body;
  keepSecrets(body.device_code);
  body.interval = state.lifetimes.device_interval_secs;
  if (place.flavour === 'google') body.verification_url = uri;
  else body.verification_uri = uri;
  if (place.flavour === 'standard') body.verification_uri_complete = complete;
  if (place.flavour === 'microsoft') {
    body.message = `To sign in, use a web browser to open the page ${uri} and enter the code ${body.user_code} to authenticate.`;
  }
  ctx.body = body;
}

// ---- the authorize endpoint ----

// The scopes requested on the page, with OFFLINE if the provider would issue a refresh token.
function pageScopes(place, query) {
  const asked = query.scope || (place.v1 && query.resource ? `${query.resource.replace(/\/$/, '')}/.default` : '');
  const { scopes, trouble } = understood(asked);
  if (trouble) return { trouble };
  const offline = place.v1 || (place.flavour === 'google' && query.access_type === 'offline');
  const kept = place.flavour === 'google' ? scopes.filter((scope) => scope !== OFFLINE) : scopes;
  return { scopes: offline ? [...new Set([...kept, OFFLINE])] : kept };
}

async function authorize(ctx, next, place) {
  const query = { ...ctx.query };
  state.requests.authorize.push({ time_ms: Date.now(), path: ctx.path, tenant: place.tenant, form: query });
  const failure = take('authorize', { client: query.client_id, tenant: place.tenant });
  if (await play(failure, ctx)) return;

  const application = applications.get(query.client_id);
  const { scopes, trouble } = pageScopes(place, query);
  const shown = tenantTrouble(place, application, 'authorization_code')
    ?? (application ? null : 'unknown_client')
    ?? (redirectAllowed(query.client_id, query.redirect_uri) ? null : 'redirect');
  if (shown) {
    ctx.state.page(ctx, shown);
  } else if (trouble) {
    const location = new URL(query.redirect_uri);
    const answer = { ...redirected(place.flavour, trouble), state: query.state };
    for (const [name, value] of Object.entries(answer)) if (value) location.searchParams.set(name, value);
    ctx.redirect(location.href);
  } else {
    const { resource, access_type: accessType, ...rest } = query;
    ctx.path = ROUTES.authorize;
    ctx.query = {
      ...rest,
      scope: scopes.join(' '),
      stand_flavour: place.flavour,
      ...(query.prompt === 'select_account' && { prompt: 'login' }),
    };
    await next();
    nameTrouble(ctx, place, query);
  }
  lose(failure, ctx);
}

// Gives the provider's text to an error that oidc-provider returns at once, such as for `prompt=none`.
function nameTrouble(ctx, place, query) {
  const location = URL.parse(ctx.response.get('location'), config.origin);
  const error = location?.searchParams.get('error');
  if (!error || !query.redirect_uri || place.flavour !== 'microsoft') return;
  const trouble = error === 'consent_required' || error === 'interaction_required' ? 'consent' : error;
  location.searchParams.set('error_description', redirected('microsoft', trouble).error_description);
  ctx.redirect(location.href);
}

// Like Microsoft: accepts registered URLs, and any port of `http://localhost`.
export function redirectAllowed(clientId, redirect) {
  const registered = applications.get(clientId)?.redirects ?? [];
  if (registered.includes(redirect)) return true;
  const url = URL.parse(redirect ?? '');
  return url?.protocol === 'http:' && ['localhost', '127.0.0.1', '[::1]'].includes(url.hostname);
}

// ---- the middlewares ----

// Records every authorization code sent in a redirect.
export async function redirects(ctx, next) {
  await next();
  const code = URL.parse(ctx.response.get('location') ?? '', config.origin)?.searchParams.get('code');
  keepSecrets(code);
  if (code) state.issued.add(code);
}

export async function endpoints(ctx, next) {
  const place = placeOf(ctx.path);
  const allowed = place && ctx.method === (place.endpoint === 'authorize' ? 'GET' : 'POST');
  if (!allowed) return next();
  return { token, devicecode, authorize }[place.endpoint](ctx, next, place);
}

export async function discovery(ctx, next) {
  const microsoft = MICROSOFT_DISCOVERY.exec(ctx.path);
  if (!microsoft && ctx.path !== DISCOVERY) return next();
  const tenant = microsoft?.groups.tenant ?? '';
  state.requests.discovery.push({ time_ms: Date.now(), path: ctx.path, tenant, form: {} });
  const failure = take('discovery', { tenant });
  if (await play(failure, ctx)) return undefined;
  if (microsoft) {
    const base = `${config.origin}/${tenant}`;
    ctx.body = {
      issuer: `${base}/v2.0`,
      authorization_endpoint: `${base}/oauth2/v2.0/authorize`,
      token_endpoint: `${base}/oauth2/v2.0/token`,
      device_authorization_endpoint: `${base}/oauth2/v2.0/devicecode`,
      response_types_supported: ['code'],
      subject_types_supported: ['pairwise'],
      id_token_signing_alg_values_supported: ['RS256'],
    };
  } else {
    await next();
  }
  lose(failure, ctx);
  return undefined;
}

// Claims tell Dovecot what a token opens: `mail` is `any` for an app-only token with a mail scope, as
// on Exchange; `delegated` is `yes` for a user's token good for the protocol at hand, which then opens the
// mailboxes named by `owner` and `shared1` and so on. All are in every response, since Dovecot treats a
// missing claim as a failure of the server.
// The last part of the path is Dovecot's protocol.
export async function introspection(ctx, next) {
  if (!ctx.path.startsWith(`${INTROSPECTION}/`)) return next();
  const service = ctx.path.slice(INTROSPECTION.length + 1);
  ctx.path = INTROSPECTION;
  const failure = take('introspection');
  if (await play(failure, ctx)) return undefined;
  await next();
  const { active, sub, scope } = ctx.body;
  const anyMailbox = active && !sub && appOnlyMail(scope);
  const own = active && sub && delegatedMail(scope, service);
  const shared = own ? user(sub).shared : [];
  ctx.body = {
    ...ctx.body,
    mail: anyMailbox ? 'any' : 'none',
    delegated: own ? 'yes' : 'no',
    owner: own ? sub : NOBODY,
  };
  for (let index = 0; index < SHARED; index += 1) ctx.body[`shared${index + 1}`] = shared[index] ?? NOBODY;
  lose(failure, ctx);
  return undefined;
}
