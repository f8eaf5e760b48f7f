// Shows who is here: avatars in the header, who is typing in the footer, and the dialog with all names and one's own.

import { byId } from './elements.js'
import { typingText } from './presence.js'
import { initials, PALETTE, saveUser } from './user.js'

const MOST_AVATARS = 5

export class PeopleView {
  #user
  #drawn = ''
  /** Called when the user has changed name or colour. */
  onUser = (/** @type {import('./user.js').User} */ _user) => {}

  /** @param {import('./user.js').User} user */
  constructor(user) {
    this.#user = user
    const dialog = /** @type {HTMLDialogElement} */ (byId('people-dialog'))
    byId('people-button').addEventListener('click', () => dialog.showModal())
    byId('swatches').append(...PALETTE.map((entry) => this.#swatch(entry)))
    byId('name-input').addEventListener('change', () => this.#save())
    byId('you-form').addEventListener('submit', () => this.#save())
    this.#fillForm()
  }

  /** Who one is oneself. */
  get user() {
    return this.#user
  }

  /** @param {import('./presence.js').Person[]} people */
  show(people) {
    byId('typing').textContent = typingText(people)
    // Carets move far more often than people come and go.
    const drawn = JSON.stringify(people)
    if (drawn === this.#drawn) return
    this.#drawn = drawn

    const count = people.length
    byId('people-label').textContent =
      `${count === 1 ? 'Only you are' : `${count} people are`} here: ${people.map(nameOf).join(', ')}. Change your name`
    byId('people-button').title = people.map(nameOf).join('\n')
    const avatars = people.slice(0, count > MOST_AVATARS ? MOST_AVATARS - 1 : count).map(avatar)
    if (count > MOST_AVATARS) avatars.push(counter(count - MOST_AVATARS + 1))
    byId('avatars').replaceChildren(...avatars)
    byId('others').replaceChildren(...people.map(listItem))
  }

  #fillForm() {
    /** @type {HTMLInputElement} */ (byId('name-input')).value = this.#user.name
    for (const input of byId('swatches').querySelectorAll('input')) input.checked = input.value === this.#user.color
  }

  #save() {
    const name = /** @type {HTMLInputElement} */ (byId('name-input')).value
    const color = byId('swatches').querySelector('input:checked')
    this.#user = saveUser(name, color instanceof HTMLInputElement ? color.value : this.#user.color)
    this.#fillForm()
    this.onUser(this.#user)
  }

  /** @param {{ name: string, color: string }} entry */
  #swatch({ name, color }) {
    const label = document.createElement('label')
    const input = document.createElement('input')
    Object.assign(input, { type: 'radio', name: 'color', value: color })
    input.setAttribute('aria-label', name)
    input.style.setProperty('--person', color)
    input.addEventListener('change', () => this.#save())
    label.title = name
    label.append(input)
    return label
  }
}

/** @param {import('./presence.js').Person} person */
function nameOf({ name, self }) {
  return self ? `${name} (you)` : name
}

/** @param {import('./presence.js').Person} person */
function avatar({ name, color, typing, self }) {
  const element = document.createElement('span')
  element.className = typing && !self ? 'avatar is-typing' : 'avatar'
  element.style.setProperty('--person', color)
  element.textContent = initials(name)
  return element
}

/** @param {number} count */
function counter(count) {
  const element = document.createElement('span')
  element.className = 'avatar more'
  element.textContent = `+${count}`
  return element
}

/** @param {import('./presence.js').Person} person */
function listItem(person) {
  const item = document.createElement('li')
  const name = document.createElement('span')
  name.textContent = nameOf(person)
  const picture = avatar(person)
  picture.setAttribute('aria-hidden', 'true')
  item.append(picture, name)
  return item
}
