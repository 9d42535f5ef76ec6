import {make, unmake} from '../shop.mjs'

const names = ['customer', 'address', 'category', 'product', 'tag', 'product_tag']
export const up = knex => make(knex, names)
export const down = knex => unmake(knex, names)
