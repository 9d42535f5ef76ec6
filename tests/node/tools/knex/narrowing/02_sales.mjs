import {make, unmake} from '../shop.mjs'

const names = ['coupon', 'basket', 'basket_item', 'invoice', 'invoice_item', 'payment', 'shipment', 'review']
export const up = knex => make(knex, names)
export const down = async knex => {
    await unmake(knex, names)
    await knex.raw('DROP TYPE invoice_state')
}
