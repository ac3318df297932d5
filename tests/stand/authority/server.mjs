// The authorization server of the test stand: oidc-provider behind Microsoft-shaped paths and error
// bodies, with introspection for Dovecot and a control endpoint through which tests make it fail.
//
// Run by the stand as `node server.mjs CONFIG.json`; writes its ports to the file named there when ready
// and leaves when its standard input closes, so that it cannot outlive the stand.
//
// Two listeners on loopback: HTTPS with the stand's certificate for OAuth clients, and plain HTTP for
// Dovecot's introspection and the control endpoint (Dovecot's own trust store stays out of the tests).

import { randomUUID } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import process from 'node:process';

import Provider from 'oidc-provider';

const config = JSON.parse(readFileSync(process.argv[2], 'utf8'));

// Resources a client may name as `{resource}/.default`; Graph is here as a valid one that opens no mailbox.
const MAIL_RESOURCES = ['https://outlook.office365.com', 'https://outlook.office.com'];
const RESOURCES = [...MAIL_RESOURCES, 'https://graph.microsoft.com'];

// ---- state that the control endpoint reads and writes ----

const state = {
  requests: [],
  lifetimeSecs: config.token_lifetime_secs,
  failures: { token: [], introspection: [] },
};

// ---- storage ----

// oidc-provider's own memory store forgets beyond 1,000 entries and cannot be emptied: a plain map can.
const stored = new Map();

class Store {
  constructor(model) {
    this.model = model;
  }

  async upsert(id, payload) {
    stored.set(`${this.model}:${id}`, payload);
  }

  async find(id) {
    return stored.get(`${this.model}:${id}`);
  }

  async findBy(field, value) {
    for (const [key, payload] of stored) {
      if (key.startsWith(`${this.model}:`) && payload[field] === value) return payload;
    }
    return undefined;
  }

  findByUid(uid) {
    return this.findBy('uid', uid);
  }

  findByUserCode(userCode) {
    return this.findBy('userCode', userCode);
  }

  async destroy(id) {
    stored.delete(`${this.model}:${id}`);
  }

  async consume(id) {
    stored.get(`${this.model}:${id}`).consumed = Math.floor(Date.now() / 1000);
  }

  async revokeByGrantId(grantId) {
    for (const [key, payload] of stored) {
      if (payload.grantId === grantId) stored.delete(key);
    }
  }
}

// ---- Microsoft's shapes ----

// oidc-provider's `error`, as Microsoft would answer it: status, error, AADSTS code, text.
const MICROSOFT_ERRORS = {
  invalid_client: [401, 'invalid_client', 7000215, 'Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID.'],
  unknown_client: [400, 'unauthorized_client', 700016, 'Application was not found in the directory. You may have sent your authentication request to the wrong tenant.'],
  missing_secret: [401, 'invalid_client', 7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."],
  invalid_scope: [400, 'invalid_scope', 70011, 'The provided value for the input parameter \'scope\' is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier.'],
  invalid_resource: [400, 'invalid_resource', 500011, 'The resource principal was not found in the tenant.'],
  unsupported_grant_type: [400, 'unsupported_grant_type', 70003, 'The app requested an unsupported grant type.'],
  invalid_request: [400, 'invalid_request', 900144, 'The request is malformed or lacks a parameter.'],
  server_error: [500, 'server_error', 90033, 'A transient error has occurred. Please try again.'],
};

function microsoftError(name) {
  const [status, error, code, text] = MICROSOFT_ERRORS[name] ?? MICROSOFT_ERRORS.invalid_request;
  const traceId = randomUUID();
  const correlationId = randomUUID();
  const timestamp = `${new Date().toISOString().slice(0, 19).replace('T', ' ')}Z`;
  return {
    status,
    body: {
      error,
      error_description: `AADSTS${code}: ${text} Trace ID: ${traceId} Correlation ID: ${correlationId} Timestamp: ${timestamp}`,
      error_codes: [code],
      timestamp,
      trace_id: traceId,
      correlation_id: correlationId,
      error_uri: `https://login.microsoftonline.com/error?code=${code}`,
    },
  };
}

// Microsoft's paths and the routes of oidc-provider that serve them; v1 paths lack the `/v2.0`.
const MICROSOFT_PATH = /^\/(?<tenant>[^/]+)\/oauth2(?<v2>\/v2\.0)?\/(?<endpoint>authorize|token|devicecode)$/;
const INTROSPECTION = '/token/introspection';
const ROUTES = { authorize: '/auth', token: '/token', devicecode: '/device/auth' };

// The name of what is wrong with an app-only request's scope, or null.
function scopeTrouble(form) {
  if (form.grant_type !== 'client_credentials') return null;
  const scopes = (form.scope ?? '').split(' ').filter(Boolean);
  if (scopes.length !== 1 || !scopes[0].endsWith('/.default')) return 'invalid_scope';
  return RESOURCES.includes(scopes[0].slice(0, -'/.default'.length)) ? null : 'invalid_resource';
}

// ---- failing on command ----

// Takes the next failure ordered for `endpoint`, plays it and says whether it did.
async function failOnCommand(endpoint, ctx) {
  const queue = state.failures[endpoint];
  if (queue.length === 0) return false;
  const failure = queue[0];
  failure.count -= 1;
  if (failure.count <= 0) queue.shift();
  if (failure.hang) {
    await new Promise((resolve) => { ctx.res.once('close', resolve); });
    ctx.respond = false;
    return true;
  }
  ctx.status = failure.status;
  if (failure.retry_after_secs !== null) ctx.set('Retry-After', String(failure.retry_after_secs));
  ctx.type = failure.body.trimStart().startsWith('{') ? 'json' : 'html';
  ctx.body = failure.body;
  return true;
}

// ---- the provider ----

async function readForm(req) {
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  return Object.fromEntries(new URLSearchParams(Buffer.concat(chunks).toString('utf8')));
}

async function microsoftPaths(ctx, next) {
  const match = MICROSOFT_PATH.exec(ctx.path);
  if (!match) {
    await next();
    return;
  }
  const { tenant, v2, endpoint } = match.groups;
  const { path } = ctx;
  ctx.path = ROUTES[endpoint];
  if (endpoint !== 'token') {
    await next();
    return;
  }

  const form = await readForm(ctx.req);
  const record = { time_ms: Date.now(), path, tenant, form, status: null };
  state.requests.push(record);
  if (await failOnCommand('token', ctx)) {
    record.status = ctx.respond === false ? null : ctx.status;
    return;
  }

  // v1 names the resource in a field of its own; oidc-provider gives `resource` another meaning.
  const { resource, ...fields } = form;
  if (!v2 && resource && !fields.scope) fields.scope = `${resource.replace(/\/$/, '')}/.default`;
  let trouble = scopeTrouble(fields);
  if (!trouble) {
    ctx.req.body = fields;
    await next();
    if (ctx.status >= 400) trouble = ctx.body?.error ?? 'invalid_request';
    if (trouble === 'invalid_client') {
      if (fields.client_id && fields.client_id !== config.client_id) trouble = 'unknown_client';
      else if (!fields.client_secret && !ctx.get('authorization')) trouble = 'missing_secret';
    }
  }
  if (trouble) {
    const { status, body } = microsoftError(trouble);
    ctx.status = status;
    ctx.type = 'json';
    ctx.body = body;
  }
  record.status = ctx.status;
  record.access_token = trouble ? null : ctx.body?.access_token;
}

// Dovecot learns by the claim `mail` what a token opens: `any` mailbox, as an app-only token with a mail
// scope does on Exchange, or `none`. It stands in every answer, since Dovecot takes a missing claim for a
// failure of the server.
async function introspection(ctx, next) {
  if (ctx.path !== INTROSPECTION) {
    await next();
    return;
  }
  if (await failOnCommand('introspection', ctx)) return;
  await next();
  const { active, sub, scope } = ctx.body;
  const opens = active && !sub && MAIL_RESOURCES.some((resource) => scope === `${resource}/.default`);
  ctx.body = { ...ctx.body, mail: opens ? 'any' : 'none' };
}

function provider(issuer) {
  const built = new Provider(issuer, {
    adapter: Store,
    clients: [
      {
        client_id: config.client_id,
        client_secret: config.client_secret,
        grant_types: ['client_credentials'],
        redirect_uris: [],
        response_types: [],
      },
      {
        client_id: config.introspection_client_id,
        client_secret: config.introspection_client_secret,
        grant_types: [],
        redirect_uris: [],
        response_types: [],
      },
    ],
    // The default of 15 s would keep expired tokens alive in tests of expiry.
    clockTolerance: 0,
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: {
        enabled: true,
        allowedPolicy: (ctx, client) => client.clientId === config.introspection_client_id,
      },
    },
    routes: { introspection: INTROSPECTION },
    scopes: RESOURCES.map((resource) => `${resource}/.default`),
    ttl: { ClientCredentials: () => state.lifetimeSecs },
  });
  built.on('server_error', (ctx, error) => console.error(error));
  built.use(introspection);
  built.use(microsoftPaths);
  return built;
}

// ---- the control endpoint ----

const CONTROLS = {
  'GET /control/requests': () => state.requests,
  'POST /control/clear': () => {
    state.requests = [];
    state.failures = { token: [], introspection: [] };
  },
  'POST /control/fail': ({ endpoint, ...failure }) => {
    state.failures[endpoint].push(failure);
  },
  'POST /control/lifetime': ({ secs }) => {
    state.lifetimeSecs = secs;
  },
  'POST /control/revoke': () => stored.clear(),
};

async function control(req, res) {
  const handler = CONTROLS[`${req.method} ${req.url}`];
  if (!handler) {
    res.writeHead(404).end();
    return;
  }
  const chunks = [];
  for await (const chunk of req) chunks.push(chunk);
  const answer = handler(chunks.length ? JSON.parse(Buffer.concat(chunks).toString('utf8')) : {});
  res.writeHead(200, { 'content-type': 'application/json' });
  res.end(JSON.stringify(answer ?? null));
}

// ---- start ----

function listen(server, port) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve(server.address().port));
  });
}

const tls = { cert: readFileSync(config.certificate), key: readFileSync(config.key) };
const secure = https.createServer(tls);
const plain = http.createServer();
const ports = { https: await listen(secure, config.port), http: await listen(plain, 0) };

const answer = provider(`https://localhost:${ports.https}`).callback();
secure.on('request', answer);
plain.on('request', (req, res) => {
  if (req.url.startsWith('/control/')) {
    control(req, res).catch((error) => res.writeHead(500).end(String(error)));
  } else {
    answer(req, res);
  }
});

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
writeFileSync(`${config.ready}.new`, JSON.stringify(ports));
renameSync(`${config.ready}.new`, config.ready);
