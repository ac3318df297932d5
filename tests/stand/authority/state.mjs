// The server's state, which the control endpoint may change: configuration, users, applications,
// ordered failures, recorded requests, secrets, and the store of oidc-provider.

import { readFileSync } from 'node:fs';
import process from 'node:process';

import Provider from 'oidc-provider';

import { narrow } from './scopes.mjs';

export const config = JSON.parse(readFileSync(process.argv[2], 'utf8'));

const ENDPOINTS = ['token', 'authorize', 'device', 'introspection', 'discovery'];
const noFailures = () => Object.fromEntries(ENDPOINTS.map((endpoint) => [endpoint, []]));
const noRequests = () => ({ token: [], authorize: [], device: [], discovery: [] });

export const state = {
  requests: noRequests(),
  failures: noFailures(),
  lifetimes: { ...config.lifetimes },
  // Addresses that differ from the default user: `{ password, behaviour, shared }`.
  users: new Map(),
  // Every secret issued or received.
  secrets: new Set(),
  // Issued codes and refresh tokens, to distinguish a used or revoked one from an invented one.
  issued: new Set(),
};

export function clear() {
  state.requests = noRequests();
  state.failures = noFailures();
}

export function keepSecrets(...values) {
  for (const value of values) {
    if (typeof value === 'string' && value) state.secrets.add(value);
  }
}

// ---- applications ----

// By client id: `{ kind, secrets, expired, certificates, redirects, singleTenant }`.
export const applications = new Map(
  config.applications.map((application) => [
    application.client_id,
    {
      kind: application.kind,
      singleTenant: application.single_tenant,
      secrets: [...application.secrets],
      expired: [],
      certificates: [],
      redirects: [...application.redirects],
    },
  ]),
);

// Service accounts by client_email: `{ publicKey, keyId }`; registered when a test asks for a key.
export const serviceAccounts = new Map();

// ---- users ----

// A user as the tests configure it; every address is a user by default.
export function user(address) {
  const known = state.users.get(address.toLowerCase());
  return { password: config.password, behaviour: 'ok', shared: [], ...known };
}

export function changeUser(address, change) {
  const key = address.toLowerCase();
  state.users.set(key, { ...state.users.get(key), ...change });
}

// ---- storage ----

// oidc-provider's own memory store drops entries beyond 1,000 and cannot be emptied; a plain map can.
const stored = new Map();

export class Store {
  constructor(model) {
    this.model = model;
  }

  async upsert(id, payload) {
    // A code or refresh token may cover several resources, an access token only one.
    if (this.model === 'AccessToken') {
      const ctx = Provider.ctx;
      const scope = narrow(payload.scope ?? '', ctx?.state.wanted);
      if (ctx) ctx.state.narrowed = scope;
      stored.set(`AccessToken:${id}`, { ...payload, scope });
      return;
    }
    stored.set(`${this.model}:${id}`, payload);
  }

  async find(id) {
    return this.model === 'Client' ? clientMetadata(id) : stored.get(`${this.model}:${id}`);
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
    forget((key, payload) => payload.grantId === grantId);
  }
}

// Returns the stored data of a code or token, or undefined.
export function lookUp(model, id) {
  return stored.get(`${model}:${id}`);
}

// Drops every stored code, token, grant and session for which `which(key, payload)` holds.
export function forget(which) {
  for (const [key, payload] of stored) {
    if (which(key, payload)) stored.delete(key);
  }
}

// ---- applications, in oidc-provider's form ----

const DEVICE_CODE = 'urn:ietf:params:oauth:grant-type:device_code';
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const CODE = ['authorization_code', 'refresh_token', DEVICE_CODE];

// The permissions of each kind of application, and how it authenticates.
const KINDS = {
  'app-only': { method: 'client_secret_post', grants: ['client_credentials'] },
  certificate: { method: 'private_key_jwt', grants: ['client_credentials', ...CODE] },
  public: { method: 'none', grants: [...CODE, 'password'] },
  delegated: { method: 'client_secret_post', grants: CODE },
  google: { method: 'client_secret_post', grants: CODE },
  'service-account': { method: 'none', grants: [JWT_BEARER] },
};

function clientMetadata(id) {
  if (serviceAccounts.has(id)) return metadata(id, { kind: 'service-account', certificates: [] });
  const application = applications.get(id);
  return application && metadata(id, application);
}

function metadata(id, application) {
  const { method, grants } = KINDS[application.kind];
  const signsIn = grants.includes('authorization_code');
  return {
    client_id: id,
    application_type: 'native',
    token_endpoint_auth_method: method,
    grant_types: grants,
    // Valid redirects are determined elsewhere; the library requires one.
    redirect_uris: signsIn ? ['http://localhost'] : [],
    response_types: signsIn ? ['code'] : [],
    ...(method === 'client_secret_post' && { client_secret: 'decided in provider.mjs' }),
    ...(method === 'private_key_jwt' && {
      token_endpoint_auth_signing_alg: 'PS256',
      jwks: { keys: application.certificates.map((certificate) => certificate.jwk) },
    }),
  };
}
