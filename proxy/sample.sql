-- A small shop, in the names an ORM would choose.
CREATE TABLE "Users" (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, name text NOT NULL, email text UNIQUE NOT NULL, "createdAt" timestamptz NOT NULL DEFAULT now());
CREATE TABLE "Banks" (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, name text NOT NULL, country text NOT NULL);
CREATE TABLE "Wallets" (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, "userId" int NOT NULL REFERENCES "Users", currency text NOT NULL, balance numeric(12, 2) NOT NULL DEFAULT 0);
CREATE TABLE "Accounts" (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, "userId" int NOT NULL REFERENCES "Users", "bankId" int NOT NULL REFERENCES "Banks", iban text NOT NULL);
CREATE TABLE "Cards" (id int PRIMARY KEY GENERATED ALWAYS AS IDENTITY, "accountId" int NOT NULL REFERENCES "Accounts", last4 text NOT NULL, expires date NOT NULL);
CREATE TABLE "Transactions" (id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY, "walletId" int NOT NULL REFERENCES "Wallets", amount numeric(12, 2) NOT NULL, memo text, "createdAt" timestamptz NOT NULL DEFAULT now());
INSERT INTO "Users" (name, email, "createdAt") SELECT 'User ' || g, 'user' || g || '@example.com', timestamptz '2024-01-01' + g * interval '3 hours' FROM generate_series(1, 1000) g;
INSERT INTO "Banks" (name, country) SELECT 'Bank ' || g, (ARRAY['DE', 'FR', 'NL', 'ES'])[1 + g % 4] FROM generate_series(1, 20) g;
INSERT INTO "Wallets" ("userId", currency, balance) SELECT g, (ARRAY['EUR', 'USD', 'GBP'])[1 + g % 3], (g * 37 % 100000) / 100.0 FROM generate_series(1, 1000) g;
INSERT INTO "Accounts" ("userId", "bankId", iban) SELECT g, 1 + g % 20, 'DE' || lpad((g * 7919)::text, 20, '0') FROM generate_series(1, 1000) g;
INSERT INTO "Cards" ("accountId", last4, expires) SELECT g, lpad((g * 131 % 10000)::text, 4, '0'), date '2027-01-01' + g % 900 FROM generate_series(1, 1000) g;
INSERT INTO "Transactions" ("walletId", amount, memo, "createdAt") SELECT 1 + g % 1000, (g * 53 % 20000) / 100.0 - 100, 'Payment ' || g, timestamptz '2025-01-01' + g * interval '11 minutes' FROM generate_series(1, 5000) g;
ANALYZE;
