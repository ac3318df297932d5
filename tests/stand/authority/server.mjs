// The authorization server of the test stand: oidc-provider behind Microsoft-shaped and Google-shaped paths
// and error bodies, with pages to sign in on, introspection for Dovecot and a control endpoint.
//
// Run by the stand as `node server.mjs CONFIG.json`; writes its ports to the file named there when ready
// and exits when its standard input closes, so that it cannot outlive the stand.
//
// Two listeners on loopback: HTTPS with the stand's certificate for OAuth clients, and plain HTTP for
// Dovecot's introspection and the control endpoint (Dovecot's own trust store stays out of the tests).

import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import process from 'node:process';

import Provider, { interactionPolicy } from 'oidc-provider';

import { INTROSPECTION, discovery, endpoints, introspection, redirectAllowed, redirects } from './endpoints.mjs';
import { certificate, checkAssertion, register, serviceAccountKey } from './grants.mjs';
import { deviceDonePage, errorPage, interactions, renderError, userCodeConfirmPage, userCodePage } from './pages.mjs';
import { ALL_SCOPES, OFFLINE } from './scopes.mjs';
import { Store, applications, changeUser, clear, config, forget, keepSecrets, serviceAccounts, state, user } from './state.mjs';

// ---- the provider ----

// The library's policy without its rule that a native application requests consent every time.
function policy() {
  const prompts = interactionPolicy.base();
  prompts.get('consent').checks.remove('native_client_prompt');
  return prompts;
}

function provider(issuer) {
  const built = new Provider(issuer, {
    adapter: Store,
    claims: { openid: ['sub', 'preferred_username', 'email', 'name'] },
    clientAuthMethods: ['none', 'client_secret_basic', 'client_secret_post', 'private_key_jwt'],
    clients: [
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
    conformIdTokenClaims: false,
    cookies: { keys: [randomBytes(32).toString('hex')] },
    assertJwtClientAuthClaimsAndHeader: checkAssertion,
    enabledJWA: { clientAuthSigningAlgValues: ['PS256'] },
    expiresWithSession: () => false,
    extraParams: ['stand_flavour'],
    features: {
      clientCredentials: { enabled: true },
      deviceFlow: {
        enabled: true,
        successSource: deviceDonePage,
        userCodeConfirmSource: userCodeConfirmPage,
        userCodeInputSource: userCodePage,
      },
      devInteractions: { enabled: false },
      introspection: {
        enabled: true,
        allowedPolicy: (ctx, client) => client.clientId === config.introspection_client_id,
      },
    },
    findAccount: (ctx, address) => ({
      accountId: address,
      claims: () => ({ sub: address, preferred_username: address, email: address, name: address }),
    }),
    interactions: { policy: policy(), url: (ctx, interaction) => `/interaction/${interaction.uid}` },
    issueRefreshToken: (ctx, client, source) => source.scopes.has(OFFLINE),
    pkce: { required: () => true },
    renderError,
    rotateRefreshToken: (ctx) => applications.get(ctx.oidc.client.clientId).kind !== 'google',
    routes: { introspection: INTROSPECTION },
    scopes: ALL_SCOPES,
    ttl: {
      AccessToken: () => state.lifetimes.access_secs,
      AuthorizationCode: () => state.lifetimes.code_secs,
      ClientCredentials: () => state.lifetimes.access_secs,
      DeviceCode: () => state.lifetimes.device_secs,
      Grant: () => state.lifetimes.refresh_secs,
      IdToken: () => state.lifetimes.access_secs,
      Interaction: () => 3600,
      RefreshToken: () => state.lifetimes.refresh_secs,
      Session: () => 86_400,
    },
  });
  // Secrets and redirects change while the server runs, and two secrets may be valid at once.
  built.Client.prototype.compareClientSecret = function compare(secret) {
    return this.clientId === config.introspection_client_id
      ? secret === config.introspection_client_secret
      : applications.get(this.clientId).secrets.includes(secret);
  };
  built.Client.prototype.redirectUriAllowed = function allowed(redirect) {
    return redirectAllowed(this.clientId, redirect);
  };
  // The audience of an assertion is the URL it was sent to.
  built.OIDCContext.prototype.clientJwtAuthExpectedAudience = function audience() {
    return new Set([this.ctx.state.tokenUrl]);
  };
  register(built);
  for (const event of ['grant.error', 'device_authorization.error', 'authorization.error']) {
    built.on(event, (ctx, error) => {
      ctx.state.detail = error.error_detail ?? error.error_description;
    });
  }
  built.on('server_error', (ctx, error) => console.error(error));
  built.use(async (ctx, next) => {
    ctx.state.page = errorPage;
    await next();
  });
  built.use(withoutIssuer);
  built.use(redirects);
  built.use(introspection);
  built.use(discovery);
  built.use(interactions(built));
  built.use(endpoints);
  return built;
}

// Neither Microsoft nor Google names itself in a redirect (RFC 9207), and here one issuer stands for all their directories.
async function withoutIssuer(ctx, next) {
  await next();
  const to = ctx.response.get('Location');
  if (!to || !ctx.oidc?.params?.stand_flavour) return;
  const url = new URL(to, config.origin);
  if (!url.searchParams.has('iss')) return;
  url.searchParams.delete('iss');
  ctx.set('Location', url.href);
}

// ---- the control endpoint ----

const CONTROLS = {
  'GET /control/requests': () => state.requests,
  'GET /control/secrets': () => [...state.secrets],
  'POST /control/clear': clear,
  'POST /control/fail': ({ endpoint, ...failure }) => {
    state.failures[endpoint].push(failure);
  },
  'POST /control/lifetimes': (changed) => {
    Object.assign(state.lifetimes, changed);
  },
  'POST /control/revoke': ({ user: address, only }) => forget((key, { accountId }) => (
    (!address || accountId === address.toLowerCase()) && (!only || only.includes(key.split(':')[0])))),
  'POST /control/user': ({ user: address, ...change }) => changeUser(address, change),
  'POST /control/share': ({ user: address, shared }) => {
    changeUser(address, { shared: [...user(address).shared, shared.toLowerCase()] });
  },
  'POST /control/application': ({ client_id: id, certificate: pem, redirect, ...change }) => {
    const application = applications.get(id);
    Object.assign(application, change);
    if (pem) application.certificates.push(certificate(pem));
    if (redirect) application.redirects.push(redirect);
  },
  'POST /control/service-account': ({ client_email: email, key }) => {
    serviceAccounts.set(email, serviceAccountKey(key));
    keepSecrets(key);
  },
  'POST /control/rsa-key': () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const pem = privateKey.export({ format: 'pem', type: 'pkcs8' });
    keepSecrets(pem);
    return pem;
  },
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
  const body = Buffer.from(JSON.stringify(answer ?? null));
  res.writeHead(200, { 'content-type': 'application/json', 'content-length': body.length });
  res.end(body);
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
// A connection that closes just when Dovecot reuses it looks like a failing introspection.
plain.keepAliveTimeout = 0;
const ports = { https: await listen(secure, config.port), http: await listen(plain, 0) };

config.origin = `https://localhost:${ports.https}`;
const answer = provider(config.origin).callback();
secure.on('request', answer);
plain.on('request', (req, res) => {
  if (req.url.startsWith('/control/')) {
    control(req, res).catch((error) => res.writeHead(500).end(String(error?.stack ?? error)));
  } else {
    answer(req, res);
  }
});

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
writeFileSync(`${config.ready}.new`, JSON.stringify(ports));
renameSync(`${config.ready}.new`, config.ready);
