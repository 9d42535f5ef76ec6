// Knex on the shop: its command line, with migrations that make it in three steps.
export default {
    client: 'pg',
    connection: {connectionString: process.env.DATABASE_URL, application_name: process.env.APP_NAME},
    pool: {min: 0, max: Number(process.env.POOL ?? 10)},
    migrations: {
        directory: process.env.MIGRATIONS ?? './migrations',
        loadExtensions: ['.mjs'],
        disableTransactions: process.env.TRANSACTIONS === 'off',
    },
}
