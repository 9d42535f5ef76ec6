// Sequelize on the shop: `node sequelize.mjs COMMAND`. SHOP_TABLES=70 makes it as large as that.
import {readFileSync} from 'node:fs'
import Sequelize from 'sequelize'

const shop = JSON.parse(readFileSync(new URL('shop.json', import.meta.url)))
for (let n = Object.keys(shop).length; n < Number(process.env.SHOP_TABLES ?? 0); n++) shop[`part_${n}`] = ['product']

const {DataTypes} = Sequelize
const database = new Sequelize.Sequelize(process.env.DATABASE_URL, {logging: false, dialectOptions: {application_name: process.env.APP_NAME}})
const models = {}
for (const [table, parents] of Object.entries(shop)) {
    const columns = {name: {type: DataTypes.TEXT, allowNull: false}}
    if (table === 'invoice') columns.state = {type: DataTypes.ENUM('open', 'paid'), defaultValue: 'open'}
    models[table] = database.define(table, columns, {freezeTableName: true, timestamps: false, indexes: [{fields: ['name']}]})
    for (const parent of parents) models[table].belongsTo(models[parent], {foreignKey: `${parent}_id`})
}

const commands = {
    sync: () => database.sync(),
    alter: () => database.sync({alter: true}),
    force: () => database.sync({force: true}),
    'force-twice': async () => { await database.sync({force: true}); await database.sync({force: true}) },
    drop: () => database.drop({}),
    'drop-cascade': () => database.drop({cascade: true}),
    'model-force': () => models.review.sync({force: true}),
    'model-drop': () => models.review.drop(),
    truncate: () => database.truncate({cascade: true, restartIdentity: true}),
    'model-truncate': () => models.review.truncate(),
    destroy: () => models.review.destroy({where: {}}),
    use: async () => {
        const [customer] = await models.customer.findOrCreate({where: {name: 'Ann'}})
        await database.transaction(async transaction => {
            await models.basket.create({name: 'first', customer_id: customer.id}, {transaction})
            await models.basket.update({name: 'second'}, {where: {customer_id: customer.id}, transaction})
        })
        await models.basket.destroy({where: {customer_id: customer.id}})
        await models.review.findAll({include: [models.customer, models.product], limit: 3})
    },
}

try {
    await commands[process.argv[2]]()
    console.log('done')
} catch (error) {
    console.error(`${error.name}: ${error.message}`)
    if (error.parent) console.error(`code ${error.parent.code}, detail ${error.parent.detail}, hint ${error.parent.hint}`)
    process.exitCode = 1
} finally {
    await database.close()
}
