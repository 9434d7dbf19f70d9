/** The shapes of the HTTP API, as far as the console uses them. */

export interface BlixtObject<Kind extends string, Spec, Status> {
  uid: string;
  kind: Kind;
  teamspace: string;
  name: string;
  revision: number;
  labels: Record<string, string>;
  owner: string;
  spec: Spec;
  status: Status;
  created_at: number;
  updated_at: number;
  deleting: boolean;
}

export type Desired = "running" | "stopped";

export interface StudioSpec {
  machine: string;
  desired: Desired;
  env: Record<string, string>;
  secrets: string[];
  idle_timeout_s: number;
}
export interface StudioStatus {
  state: "stopped" | "starting" | "running" | "stopping" | "failed";
  reason?: string | null;
  started_at?: number | null;
  agent_connected?: boolean;
}
export type Studio = BlixtObject<"studio", StudioSpec, StudioStatus>;

export interface JobSpec {
  command: string | string[];
  machine: string;
  machines: number;
  processes: number;
  env: Record<string, string>;
  secrets: string[];
  source?: string | null;
  studio?: string | null;
  experiment?: string | null;
  model?: string | null;
  max_restarts: number;
  timeout_s?: number | null;
  desired: Desired;
}
export interface JobStatus {
  state: "pending" | "starting" | "running" | "stopping" | "succeeded" | "failed" | "stopped";
  reason?: string | null;
  exit_code?: number | null;
  attempt?: number;
  allocations?: string[];
  started_at?: number | null;
  finished_at?: number | null;
  model_version?: number | null;
}
export type Job = BlixtObject<"job", JobSpec, JobStatus>;

export interface Replica {
  id: string;
  state: "starting" | "ready" | "stopping" | "failed";
  port?: number | null;
  started_at?: number | null;
  restarts?: number;
}
export interface DeploymentSpec {
  model?: string | null;
  command?: string | string[] | null;
  machine: string;
  min_replicas: number;
  max_replicas: number;
  concurrency: number;
  idle_timeout_s: number;
  env: Record<string, string>;
  secrets: string[];
  source?: string | null;
  health_path: string;
  start_timeout_s: number;
  public: boolean;
  desired: Desired;
}
export interface DeploymentStatus {
  state: "sleeping" | "starting" | "ready" | "degraded" | "failed" | "stopped";
  reason?: string | null;
  replicas?: Replica[];
  requests_total?: number;
  in_flight?: number;
  url?: string | null;
}
export type Deployment = BlixtObject<"deployment", DeploymentSpec, DeploymentStatus>;

export type Experiment = BlixtObject<"experiment", { description: string }, { runs?: number }>;
export type Model = BlixtObject<"model", { description: string }, { latest_version?: number | null }>;
export type Secret = BlixtObject<"secret", Record<string, unknown>, Record<string, unknown>>;

export interface BudgetSpec {
  limit_uc: number;
  period: "total" | "month";
  applies_to: string;
}
export interface BudgetStatus {
  spent_uc?: number;
  held_uc?: number;
  remaining_uc?: number;
}
export type Budget = BlixtObject<"budget", BudgetSpec, BudgetStatus>;

/** Every kind by its plural, as paths and caches name it. */
export interface Kinds {
  studios: Studio;
  jobs: Job;
  deployments: Deployment;
  experiments: Experiment;
  models: Model;
  secrets: Secret;
  budgets: Budget;
}
export type Plural = keyof Kinds;
export type AnyObject = Kinds[Plural];

export interface Listing<T> {
  items: T[];
  seq?: number;
}

export interface Change {
  seq: number;
  type: "created" | "updated" | "deleted";
  object: AnyObject;
}

export interface WhoAmI {
  user: { name: string; is_admin?: boolean };
  teamspaces: { name: string; role: Role }[];
  server: { version: string };
}
export type Role = "owner" | "member" | "viewer";

export interface Machine {
  name: string;
  cpus: number;
  memory_gb: number;
  gpus: number;
  price_uc_per_hour: number;
  available?: boolean | number;
}

export interface BillLine {
  kind: string;
  name: string;
  uid: string;
  machine: string;
  seconds: number;
  amount_uc: number;
  segments?: number;
  open: boolean;
}
export interface Bill {
  lines: BillLine[];
  total_uc: number;
  budget_uc: number | null;
  remaining_uc: number | null;
  balance_uc?: number;
  budgets?: (BudgetStatus & { name: string })[];
}

export interface Run {
  id: string;
  name: string;
  state: string;
  params: Record<string, unknown>;
  job?: string | null;
  started_at: number;
  updated_at: number;
  summary: Record<string, number | string>;
}
export type Series = Record<string, { step: number[]; value: (number | string)[]; time: number[] }>;

export interface ModelFile {
  path: string;
  size_bytes: number;
  sha256: string;
}
export interface ModelVersion {
  version: number;
  state: string;
  files?: ModelFile[];
  metrics?: Record<string, number | string> | null;
  job?: string | null;
  created_at: number;
}

export interface Member {
  user: string;
  role: Role;
  created_at: number;
}
export interface Token {
  id: string;
  kind: string;
  user: string;
  label: string;
  teamspace: string | null;
  role: string | null;
  scope: string | null;
  created_at: number;
  expires_at: number | null;
  current?: boolean;
}
export interface AuditEntry {
  seq: number;
  at: number;
  actor: string;
  action: string;
  kind: string;
  teamspace: string;
  name: string;
  outcome: string;
  detail: Record<string, unknown>;
  hash: string;
}
export interface LedgerEntry {
  id: number;
  transaction: string;
  account: string;
  amount_uc: number;
  memo: string;
  at: number;
}
